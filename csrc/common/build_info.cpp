// What this object is and what it was built from and for: JSON, read by dovetail.ops through ctypes.

// Raised in step with REVISION in src/dovetail/ops/_loader.py whenever a schema or the meaning of a result changes, so
// that an object from an older checkout is not taken for a new one.
#define DOVETAIL_REVISION "5"

// setup.py defines DOVETAIL_BUILD_INFO: the members of a JSON object.
extern "C" __attribute__((visibility("default"))) const char* dovetail_build_info() {
  return "{\"revision\": " DOVETAIL_REVISION ", " DOVETAIL_BUILD_INFO "}";
}

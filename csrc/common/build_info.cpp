// The build information of this object as JSON; dovetail.ops reads it through ctypes.

// Increment it together with REVISION in src/dovetail/ops/_loader.py when a schema or the meaning of a result changes:
// the loader rejects objects of another revision.
#define DOVETAIL_REVISION "5"

// setup.py defines DOVETAIL_BUILD_INFO, the members of a JSON object.
extern "C" __attribute__((visibility("default"))) const char* dovetail_build_info() {
  return "{\"revision\": " DOVETAIL_REVISION ", " DOVETAIL_BUILD_INFO "}";
}

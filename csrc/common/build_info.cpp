// What this object was built from and for: one line of JSON that setup.py writes, read by dovetail.ops through ctypes.

extern "C" __attribute__((visibility("default"))) const char* dovetail_build_info() {
  return DOVETAIL_BUILD_INFO;
}

// DOVETAIL_CLONES compiles a function once per x86-64 level; the loader selects one when it loads the object.
// Every clone of a kernel adds in the same order, so the level does not change the result.
#pragma once

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define DOVETAIL_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define DOVETAIL_CLONES
#endif

// The x86-64 level, for code that target_clones does not support: 4 (AVX-512), 3 (AVX2) or 1.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define DOVETAIL_LEVELS
namespace dovetail {
inline int level() {
  static const int found = __builtin_cpu_supports("x86-64-v4") ? 4 : __builtin_cpu_supports("x86-64-v3") ? 3 : 1;
  return found;
}
}  // namespace dovetail
#endif

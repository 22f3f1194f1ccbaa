/*
 * What the build is made for. The thread sanitizer makes programs ten times slower and looks for what happens between
 * threads: of many cases alike it is shown every fifth; the other flavours run them all.
 */
#ifndef TESTS_UNIT_FLAVOUR_H
#define TESTS_UNIT_FLAVOUR_H

#if defined(__SANITIZE_THREAD__)
#define CASES_STEP 5
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CASES_STEP 5
#endif
#endif
#ifndef CASES_STEP
#define CASES_STEP 1
#endif

#endif

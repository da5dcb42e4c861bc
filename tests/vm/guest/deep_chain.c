// 60 calls deep through distinct functions, each of which works before and after the call it makes:
// main, d1, ... d60. usage: deep_chain SECONDS ROUNDS
#include <stdlib.h>
#include <time.h>

#define ALONE __attribute__((noinline, noclone))
static volatile unsigned long sink;
static unsigned long rounds;

static inline __attribute__((always_inline)) void work(void) {
  for (unsigned long i = 0; i < rounds; ++i) sink += i;
}

static ALONE int d60(int x) {
  work();
  return x + 1;
}
#define DEEP(name, next)         \
  static ALONE int name(int x) { \
    work();                      \
    int result = next(x + 1);    \
    work();                      \
    return result + 1;           \
  }
DEEP(d59, d60)
DEEP(d58, d59) DEEP(d57, d58) DEEP(d56, d57) DEEP(d55, d56) DEEP(d54, d55) DEEP(d53, d54)
    DEEP(d52, d53) DEEP(d51, d52) DEEP(d50, d51) DEEP(d49, d50) DEEP(d48, d49) DEEP(d47, d48)
        DEEP(d46, d47) DEEP(d45, d46) DEEP(d44, d45) DEEP(d43, d44) DEEP(d42, d43) DEEP(d41, d42)
            DEEP(d40, d41) DEEP(d39, d40) DEEP(d38, d39) DEEP(d37, d38) DEEP(d36, d37)
                DEEP(d35, d36) DEEP(d34, d35) DEEP(d33, d34) DEEP(d32, d33) DEEP(d31, d32)
                    DEEP(d30, d31) DEEP(d29, d30) DEEP(d28, d29) DEEP(d27, d28) DEEP(d26, d27)
                        DEEP(d25, d26) DEEP(d24, d25) DEEP(d23, d24) DEEP(d22, d23) DEEP(d21, d22)
                            DEEP(d20, d21) DEEP(d19, d20) DEEP(d18, d19) DEEP(d17, d18)
                                DEEP(d16, d17) DEEP(d15, d16) DEEP(d14, d15) DEEP(d13, d14)
                                    DEEP(d12, d13) DEEP(d11, d12) DEEP(d10, d11) DEEP(d9, d10)
                                        DEEP(d8, d9) DEEP(d7, d8) DEEP(d6, d7) DEEP(d5, d6)
                                            DEEP(d4, d5) DEEP(d3, d4) DEEP(d2, d3) DEEP(d1, d2)

                                                static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char** argv) {
  const double end = now() + (argc > 1 ? atof(argv[1]) : 5);
  rounds = argc > 2 ? strtoul(argv[2], 0, 10) : 20000;
  while (now() < end) sink += (unsigned long)d1(0);
  return 0;
}

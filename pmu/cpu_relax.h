// Tells the processor that the thread waits in a loop for another's store: it leaves the core's
// resources to its sibling, and the loop without a flush of what it speculated. The only
// instruction that lbrd asks for by name; a machine without one spins as it is.
//
// Thread rules: any.
#pragma once

namespace lbrd::pmu {

inline void CpuRelax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  asm volatile("yield" ::: "memory");
#elif defined(__riscv)
  asm volatile(".4byte 0x0100000f" ::: "memory");  // pause, a hint to those that do not know it
#elif defined(__powerpc__)
  asm volatile("or 27,27,27" ::: "memory");
#else
  asm volatile("" ::: "memory");
#endif
}

}  // namespace lbrd::pmu

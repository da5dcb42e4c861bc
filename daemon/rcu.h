// Read-copy-update: who looks something up holds a read lock, which costs nothing and waits for
// nobody; who takes something out of sight frees it once all read locks of that time are gone.
//
// liburcu, flavour bp: its readers pay a compiler barrier (the grace period runs membarrier(2)),
// and a thread is registered when it first reads, so that gRPC's threads need no care. Its
// functions are called, not inlined: the headers that would inline them are LGPL.
//
// ThreadSanitizer does not see into liburcu, which is not instrumented; it is told here what a
// grace period orders: all that was done under read locks before it, before what is retired through
// it.
//
// Thread rules: any thread. A read lock is destroyed by the thread that made it; it nests.
#pragma once

// What is inlined has a misaligned access, harmless here, which UBSan (part of the same build as
// AddressSanitizer) would stop at.
#ifndef LBRD_ASAN
#define _LGPL_SOURCE
#endif
#include <urcu/urcu-bp.h>
#undef _LGPL_SOURCE

namespace lbrd::daemon {

namespace rcu_internal {
#ifdef LBRD_TSAN
void EndReading();
#else
inline void EndReading() {}
#endif
}  // namespace rcu_internal

class RcuReadLock {
 public:
  RcuReadLock() { urcu_bp_read_lock(); }
  RcuReadLock(const RcuReadLock&) = delete;
  RcuReadLock& operator=(const RcuReadLock&) = delete;
  ~RcuReadLock() {
    rcu_internal::EndReading();
    urcu_bp_read_unlock();
  }
};

// Waits until all that was retired before has been freed. Not under a read lock.
void RcuBarrier();

namespace rcu_internal {
void Retire(rcu_head* head, void (*callback)(rcu_head*));
void BeginCallback(rcu_head* head);
}  // namespace rcu_internal

// Calls kFree(head) after a grace period, on liburcu's thread. Does not wait.
template <void (*kFree)(rcu_head*)>
void RcuRetire(rcu_head* head) {
  rcu_internal::Retire(head, [](rcu_head* ended) {
    rcu_internal::BeginCallback(ended);
    kFree(ended);
  });
}

}  // namespace lbrd::daemon

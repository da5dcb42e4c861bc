#include "daemon/rcu.h"

#include <pthread.h>

#include <latch>

#ifdef LBRD_TSAN
extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#endif

namespace lbrd::daemon {
namespace {

#ifdef LBRD_TSAN
void OrderedBefore(void* what) { __tsan_release(what); }
void OrderedAfter(void* what) { __tsan_acquire(what); }
#else
void OrderedBefore(void*) {}
void OrderedAfter(void*) {}
#endif

struct Marker : rcu_head {
  static void Pass(rcu_head* head) { static_cast<Marker*>(head)->passed.count_down(); }
  std::latch passed{1};
};

char read_sections;  // stands for the end of all read sections

}  // namespace

// liburcu calls back in the order of retirement, on one thread. (Its own barrier does the same,
// with memory of its own that ThreadSanitizer cannot follow.)
void RcuBarrier() {
  Marker marker;
  RcuRetire<&Marker::Pass>(&marker);
  marker.passed.wait();
}

namespace rcu_internal {

#ifdef LBRD_TSAN
void EndReading() { OrderedBefore(&read_sections); }
#endif

void Retire(rcu_head* head, void (*callback)(rcu_head*)) {
  // Made by liburcu when it is first needed; a thread has a name here.
  [[maybe_unused]] static const int named = pthread_setname_np(
      urcu_bp_get_call_rcu_thread(urcu_bp_get_default_call_rcu_data()), "lbrd-rcu");
  OrderedBefore(head);
  urcu_bp_call_rcu(head, callback);
}

void BeginCallback(rcu_head* head) {
  OrderedAfter(head);
  OrderedAfter(&read_sections);
}

}  // namespace rcu_internal
}  // namespace lbrd::daemon

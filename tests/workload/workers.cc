#include "tests/workload/workers.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <iterator>

#include "tests/workload/demo_codec.h"

namespace demo {

// Not in an unnamed namespace: the names are what a profile shows. Every function that uses CPU
// time has its loop written out in itself, so that it is the leaf of its samples.

// --- demo-parse: two plain functions
// -------------------------------------------------------------------------------

DEMO_OWN_FRAME void Tokenize(Worker& worker) {
  uint64_t x = worker.state;
  worker.quotas[0].Grant(3'000'000);
  while (uint64_t n = worker.quotas[0].Take()) {
    for (; n > 0; --n) x = (x ^ (x >> 31)) * 0x7fb5d329728ea185u;
  }
  worker.state = x;
}

DEMO_OWN_FRAME void BuildTree(Worker& worker) {
  uint64_t x = worker.state;
  worker.quotas[1].Grant(2'000'000);
  while (uint64_t n = worker.quotas[1].Take()) {
    for (; n > 0; --n) x = (x << 5) + (x >> 3) + n;
  }
  worker.state = x;
}

DEMO_OWN_FRAME void ParseStream(Worker& worker) {
  Tokenize(worker);
  BuildTree(worker);
}

constexpr FunctionShare kParse[] = {
    {"demo::Tokenize", "\\bdemo::Tokenize\\b", "demo::RunWorker;demo::ParseStream", 3'000'000},
    {"demo::BuildTree", "\\bdemo::BuildTree\\b", "demo::RunWorker;demo::ParseStream", 2'000'000},
};

// --- demo-codec: a shared library
// ----------------------------------------------------------------------------------

// Here the library's functions run one chunk per call, so the call through the table is taken
// thousands of times.
DEMO_OWN_FRAME void EncodeFrame(Worker& worker) {
  worker.quotas[0].Grant(3'500'000);
  while (const uint64_t n = worker.quotas[0].Take()) {
    worker.state = demo_codec_transform(worker.state, n);
  }
  worker.quotas[1].Grant(1'500'000);
  while (const uint64_t n = worker.quotas[1].Take()) {
    worker.state = demo_codec_checksum(worker.state, n);
  }
}

constexpr FunctionShare kCodec[] = {
    {"demo_codec_transform", "\\bdemo_codec_transform\\b", "demo::RunWorker;demo::EncodeFrame",
     3'500'000},
    {"demo_codec::Crc32", "\\bdemo_codec::Crc32\\b",
     "demo::RunWorker;demo::EncodeFrame;demo_codec_checksum", 1'500'000},
};

// --- demo-recurse: a deep stack of small frames
// --------------------------------------------------------------------

DEMO_OWN_FRAME void SearchLeaf(Worker& worker) {
  uint64_t x = worker.state;
  worker.quotas[0].Grant(1'000'000);
  while (uint64_t n = worker.quotas[0].Take()) {
    for (; n > 0; --n) x = x * 3935559000370003845u + n;
  }
  worker.state = x;
}

// Works at every 15th level on its way down, and calls SearchLeaf at the bottom.
DEMO_OWN_FRAME uint64_t Descend(Worker& worker, int depth) {
  if (depth % 15 == 0) {
    worker.quotas[1].Grant(62'500);
    while (uint64_t n = worker.quotas[1].Take()) {
      for (; n > 0; --n) worker.state = worker.state * 2862933555777941757u + n;
    }
  }
  if (depth > 1) return Descend(worker, depth - 1) + 1;
  SearchLeaf(worker);
  return 1;
}

DEMO_OWN_FRAME void SearchTree(Worker& worker) {
  for (int i = 0; i < 4; ++i) worker.state += Descend(worker, kDescendDepth);
}

constexpr FunctionShare kRecurse[] = {
    {"demo::SearchLeaf", "\\bdemo::SearchLeaf\\b",
     "demo::RunWorker;demo::SearchTree;demo::Descend*60", 4'000'000},
    {"demo::Descend", "\\bdemo::Descend\\b", "demo::RunWorker;demo::SearchTree;demo::Descend*0-45",
     1'000'000},
};

// --- demo-signal: work in a signal handler
// -------------------------------------------------------------------------

thread_local Worker* signalled_worker = nullptr;
thread_local timer_t tick_timer;

constexpr int64_t kIntegrateNs = 3'000'000;
constexpr int64_t kHandleTickNs = 2'000'000;

// The timer's period decides only how the handler's work is cut up: it does what is due since the
// last tick.
DEMO_OWN_FRAME void HandleTick(Worker& worker) {
  CpuQuota& quota = worker.quotas[1];
  const int64_t due =
      worker.quotas[0].spent_ns() * kHandleTickNs / kIntegrateNs - quota.granted_ns();
  if (due < 100'000) return;
  // Not worker.state, which belongs to the function that was interrupted.
  static thread_local volatile uint64_t sink = 1;
  uint64_t x = sink;
  quota.Grant(due);
  while (uint64_t n = quota.Take()) {
    for (; n > 0; --n) x = (x ^ n) * 0xc2b2ae3d27d4eb4fu;
  }
  sink = x;
}

DEMO_OWN_FRAME void OnTick(int) {
  if (signalled_worker == nullptr) return;
  const SignalScope scope;
  HandleTick(*signalled_worker);
}

DEMO_OWN_FRAME void Integrate(Worker& worker) {
  uint64_t x = worker.state;
  worker.quotas[0].Grant(kIntegrateNs);
  while (uint64_t n = worker.quotas[0].Take()) {
    for (; n > 0; --n) x += (x << 7) ^ n;
  }
  worker.state = x;
}

DEMO_OWN_FRAME void SimulateStep(Worker& worker) { Integrate(worker); }

constexpr FunctionShare kSignal[] = {
    {"demo::Integrate", "\\bdemo::Integrate\\b", "demo::RunWorker;demo::SimulateStep",
     kIntegrateNs},
    {"demo::HandleTick", "\\bdemo::HandleTick\\b",
     "demo::RunWorker;demo::SimulateStep;demo::Integrate;[signal];demo::OnTick", kHandleTickNs},
};

bool StartTicks(Worker& worker) {
  signalled_worker = &worker;
  struct sigaction action {};
  action.sa_handler = OnTick;
  action.sa_flags = SA_RESTART;
  if (sigaction(SIGUSR1, &action, nullptr) != 0) return false;
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SIGUSR1;
  event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
  if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &tick_timer) != 0) return false;
  const itimerspec every_2ms{{0, 2'000'000}, {0, 2'000'000}};
  return timer_settime(tick_timer, 0, &every_2ms, nullptr) == 0;
}

void StopTicks() {
  timer_delete(tick_timer);
  signalled_worker = nullptr;
}

// --- demo-render: virtual call, template, lambda
// -------------------------------------------------------------------

class Shape {
 public:
  virtual ~Shape() = default;
  virtual void Rasterize(Worker& worker) const = 0;
};

class Circle : public Shape {
 public:
  DEMO_OWN_FRAME void Rasterize(Worker& worker) const override {
    uint64_t x = worker.state;
    worker.quotas[0].Grant(1'500'000);
    while (uint64_t n = worker.quotas[0].Take()) {
      for (; n > 0; --n) x = x * x + (n | 1);
    }
    worker.state = x;
  }
};

template <int kCorners>
class Polygon : public Shape {
 public:
  DEMO_OWN_FRAME void Rasterize(Worker& worker) const override {
    uint64_t x = worker.state;
    worker.quotas[1].Grant(1'500'000);
    while (uint64_t n = worker.quotas[1].Take()) {
      for (; n > 0; --n) x = (x >> kCorners) ^ (x * kCorners);
    }
    worker.state = x;
  }
};

template <typename Number>
DEMO_OWN_FRAME void Blend(Worker& worker) {
  Number x = static_cast<Number>(worker.state & 0xff);
  worker.quotas[2].Grant(1'000'000);
  while (uint64_t n = worker.quotas[2].Take()) {
    for (; n > 0; --n) x = x * Number{0.5} + Number{1.25};
  }
  worker.state += static_cast<uint64_t>(x);
}

DEMO_OWN_FRAME void RenderScene(Worker& worker) {
  static const Circle circle;
  static const Polygon<6> hexagon;
  const Shape* const shapes[] = {&circle, &hexagon};
  for (const Shape* shape : shapes) shape->Rasterize(worker);
  Blend<float>(worker);
#if defined(__clang__)
  const auto dither = [](Worker & w) __attribute__((noinline)) {
#else
  const auto dither = [](Worker & w) __attribute__((noipa)) {
#endif
    uint64_t x = w.state;
    w.quotas[3].Grant(1'000'000);
    while (uint64_t n = w.quotas[3].Take()) {
      for (; n > 0; --n) x ^= (x << 9) + n;
    }
    w.state = x;
  };
  dither(worker);
}

constexpr FunctionShare kRender[] = {
    {"demo::Circle::Rasterize", "\\bdemo::Circle::Rasterize\\b",
     "demo::RunWorker;demo::RenderScene", 1'500'000},
    {"demo::Polygon<6>::Rasterize", "\\bdemo::Polygon<6>::Rasterize\\b",
     "demo::RunWorker;demo::RenderScene", 1'500'000},
    {"demo::Blend<float>", "\\bdemo::Blend<float>", "demo::RunWorker;demo::RenderScene", 1'000'000},
    // GCC and clang name it differently.
    {"lambda in demo::RenderScene", "\\bdemo::RenderScene.*(\\{lambda|\\$_0).*::operator\\(\\)",
     "demo::RunWorker;demo::RenderScene", 1'000'000},
};

constexpr WorkerKind kKinds[] = {
    {"demo-parse", kParse, ParseStream},    {"demo-codec", kCodec, EncodeFrame},
    {"demo-recurse", kRecurse, SearchTree}, {"demo-signal", kSignal, SimulateStep},
    {"demo-render", kRender, RenderScene},
};

constexpr bool EveryRoundIsEquallyLong() {
  for (const WorkerKind& kind : kKinds) {
    int64_t sum = 0;
    for (const FunctionShare& function : kind.functions) sum += function.quota_ns;
    if (sum != kRoundNs || kind.functions.size() > kMaxFunctions) return false;
  }
  return true;
}
static_assert(EveryRoundIsEquallyLong());

std::span<const WorkerKind> WorkerKinds() { return kKinds; }

Worker MakeWorker(int index) {
  Worker worker;
  worker.index = index;
  worker.kind = &kKinds[static_cast<size_t>(index) % std::size(kKinds)];
  return worker;
}

std::string ThreadName(const Worker& worker) {
  const int copy = worker.index / static_cast<int>(std::size(kKinds));
  std::string name = worker.kind->thread_name;
  if (copy > 0) name += "-" + std::to_string(copy + 1);
  return name;
}

bool EnterThread(Worker& worker) {
  pthread_setname_np(pthread_self(), ThreadName(worker).c_str());
  return worker.kind->round != SimulateStep || StartTicks(worker);
}

void LeaveThread(Worker& worker) {
  if (worker.kind->round == SimulateStep) StopTicks();
}

}  // namespace demo

#include "daemon/pipeline.h"

#include <asm/perf_regs.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "no_files.h"
#include "scripted_source.h"

namespace lbrd::daemon {
namespace {

// Keeps what is delivered; may be shut, or slow.
class Sink : public SampleSink {
 public:
  void Deliver(std::span<const Sample> samples) override {
    absl::MutexLock lock(&mutex_);
    ++waiting_;
    mutex_.Await(absl::Condition(&open_));
    --waiting_;
    for (const Sample& sample : samples) {
      samples_.push_back(sample);
      threads_.emplace_back(sample.thread->pid, std::this_thread::get_id());
    }
    if (delay_ > absl::ZeroDuration()) absl::SleepFor(delay_);
  }
  void Forget() {
    absl::MutexLock lock(&mutex_);
    samples_.clear();
    threads_.clear();
  }
  void Shut() {
    absl::MutexLock lock(&mutex_);
    open_ = false;
  }
  void Open() {
    absl::MutexLock lock(&mutex_);
    open_ = true;
  }
  void SlowDown(absl::Duration delay) { delay_ = delay; }
  void AwaitDeliverer() {
    absl::MutexLock lock(&mutex_);
    const auto one = [this] { return waiting_ > 0; };
    mutex_.Await(absl::Condition(&one));
  }
  void AwaitSamples(size_t count) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [this, count] { return samples_.size() >= count; };
    mutex_.Await(absl::Condition(&enough));
  }
  std::vector<Sample> samples() const {
    absl::MutexLock lock(&mutex_);
    return samples_;
  }
  std::vector<std::pair<int32_t, std::thread::id>> threads() const {
    absl::MutexLock lock(&mutex_);
    return threads_;
  }

 private:
  mutable absl::Mutex mutex_;
  bool open_ = true;
  int waiting_ = 0;
  absl::Duration delay_;
  std::vector<Sample> samples_;
  std::vector<std::pair<int32_t, std::thread::id>> threads_;
};

class PipelineTest : public ::testing::Test {
 protected:
  // Call once the script is written: the source is the pipeline's then.
  void Make(std::unique_ptr<ScriptedSource> source, PipelineOptions options = {},
            const pmu::RecordFormat& format = pmu::WireSampleFormat()) {
    source_ = source.get();
    pipeline_ = std::make_unique<Pipeline>(
        std::move(source), std::vector<WorkerEvent>{{.format = format}}, &binaries_,
        KernelNameSource(), options.gate == nullptr ? &sink_ : nullptr, options);
  }
  void Start(pmu::RecordWriter known = {}) {
    pipeline_->Start(std::move(known), [this](absl::Status status) {
      absl::MutexLock lock(&mutex_);
      status_ = std::move(status);
      done_ = true;
    });
  }
  absl::Status RunToEnd(pmu::RecordWriter known = {}) {
    Start(std::move(known));
    return AwaitEnd();
  }
  absl::Status AwaitEnd() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&done_));
    return status_;
  }
  bool done() {
    absl::MutexLock lock(&mutex_);
    return done_;
  }
  // The account must close: what was seen, was delivered, or is counted as dropped.
  void CheckAccount() const {
    const PipelineStats stats = pipeline_->stats();
    EXPECT_EQ(stats.source.samples,
              sink_.samples().size() + stats.dropped_queue_full + stats.undecodable_samples);
  }

  NoFiles files_;
  unwind::BinaryCache binaries_{&files_};
  Sink sink_;
  absl::Mutex mutex_;
  bool done_ = false;
  absl::Status status_;
  std::unique_ptr<Pipeline> pipeline_;
  ScriptedSource* source_ = nullptr;
};

pmu::Words SampleOf(int32_t pid, uint64_t time) {
  return pmu::Wire({.pid = pid, .tid = pid, .time = time, .cpu = 3, .period = 17});
}

TEST_F(PipelineTest, DeliversEverySampleOfEveryProcess) {
  auto source = std::make_unique<ScriptedSource>(/*patient=*/true);
  for (uint64_t time = 1; time <= 20000; ++time) {
    source->Add(SampleOf(100 + static_cast<int32_t>(time % 50), time));
  }
  Make(std::move(source), {.workers = 4});
  ASSERT_TRUE(RunToEnd().ok());
  CheckAccount();
  const std::vector<Sample> samples = sink_.samples();
  ASSERT_EQ(samples.size(), 20000u);
  std::map<int32_t, uint64_t> last;
  std::set<uint64_t> times;
  for (const Sample& sample : samples) {
    EXPECT_LT(last[sample.thread->pid], sample.time_ns);  // each process in order
    last[sample.thread->pid] = sample.time_ns;
    EXPECT_TRUE(times.insert(sample.time_ns).second);
    EXPECT_EQ(sample.cpu, 3u);
    EXPECT_EQ(sample.weight, 17u);
  }
  // Each process has one worker, and there is work for more than one.
  std::map<int32_t, std::thread::id> worker_of;
  std::set<std::thread::id> workers;
  for (const auto& [pid, thread] : sink_.threads()) {
    EXPECT_EQ(worker_of.try_emplace(pid, thread).first->second, thread);
    workers.insert(thread);
  }
  EXPECT_EQ(workers.size(), 4u);
}

TEST_F(PipelineTest, LargeSamplesAreReadWhereTheirSourceKeepsThem) {
  constexpr uint64_t kSamples = 20'000;
  auto source = std::make_unique<ScriptedSource>(/*patient=*/true);
  source->KeepRecords();
  for (uint64_t time = 1; time <= kSamples; ++time) {
    const size_t depth = time % 5 == 0 ? 3 : 120 + time % 7;
    source->Add(pmu::Wire({.pid = 100,
                           .tid = 100,
                           .time = time,
                           .chain = {static_cast<uint64_t>(PERF_CONTEXT_USER)}}));
    pmu::WireSample large{.pid = 100, .tid = 100, .time = time};
    large.chain.assign(depth, 0x1000 * time);
    large.chain[0] = static_cast<uint64_t>(PERF_CONTEXT_USER);
    source->Add(pmu::Wire(large));
  }
  Make(std::move(source), {.workers = 1, .queue_bytes = 1});
  ASSERT_TRUE(RunToEnd().ok());
  EXPECT_EQ(source_->kept(), kSamples * 4 / 5) << "small ones are copied";
  EXPECT_GT(source_->let_go(), source_->kept() / 4) << "all but what is under way";
  const std::vector<Sample> samples = sink_.samples();
  ASSERT_EQ(samples.size(), 2 * kSamples);
  for (uint64_t time = 1; time <= kSamples; ++time) {
    const StackInfo& stack = *samples[2 * time - 1].stack;
    ASSERT_EQ(samples[2 * time - 1].time_ns, time);
    ASSERT_EQ(stack.frames.size(), (time % 5 == 0 ? 3 : 120 + time % 7) - 1);
    for (const auto& frame : stack.frames) ASSERT_EQ(frame->ip, 0x1000 * time);
  }
}

// A sample with registers and a copy of a stack that frame pointers lead through.
pmu::RecordFormat CopyFormat() {
  pmu::RecordFormat format = pmu::WireSampleFormat();
  format.sample_type |= PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER;
  format.sample_regs_user = 1 << PERF_REG_X86_BP | 1 << PERF_REG_X86_SP | 1 << PERF_REG_X86_IP;
  return format;
}

pmu::Words SampleWithCopy(int32_t pid, uint64_t time, uint64_t code) {
  constexpr uint64_t kStack = 0x7ff000;
  constexpr size_t kWords = 160;
  pmu::Words words =
      pmu::Wire({.ip = code + time % 64, .pid = pid, .tid = pid, .time = time, .period = 17});
  words.insert(words.end(),
               {PERF_SAMPLE_REGS_ABI_64, kStack + 16, kStack, code + time % 64, kWords * 8});
  for (size_t i = 0; i < kWords; ++i) {
    // At 16, 48, 80 … the caller's frame pointer, and above it the return address.
    words.push_back(i % 4 == 2 ? kStack + 8 * (i + 4) : i % 4 == 3 ? code + 64 + 8 * i : 0);
  }
  words.push_back(kWords * 8);
  words[0] = pmu::HeaderWord(PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER, words.size() * 8);
  return words;
}

pmu::Words WireMmap(int32_t pid, uint64_t start, const char* path, uint64_t time) {
  pmu::RecordWriter writer;
  writer.Mmap2(pid, pid, start, 0x1000, 0, /*executable=*/true, {.inode = 7}, path);
  return pmu::WireOther(PERF_RECORD_MMAP2,
                        reinterpret_cast<const perf_event_header*>(writer.words().data())->misc,
                        {writer.words().begin() + 1, writer.words().end()}, pid, pid, time);
}

TEST_F(PipelineTest, ResolvingAheadChangesNothing) {
  const auto script = [](bool patient) {
    auto source = std::make_unique<ScriptedSource>(patient);
    uint64_t time = 0;
    for (int32_t pid = 100; pid < 104; ++pid) {
      source->Add(WireMmap(pid, 0x400000, "/bin/first", ++time));
      source->Add(pmu::WireComm(pid, pid, "first", ++time));
    }
    for (int round = 0; round < 200; ++round) {
      for (int32_t pid = 100; pid < 105; ++pid) {
        source->Add(SampleWithCopy(pid, ++time, 0x400000));
        source->Add(SampleWithCopy(pid, ++time, 0x800000));
        source->Add(SampleOf(pid, ++time));  // cannot be decoded by the same format
      }
      // What is mapped changes between samples, and so do their stacks.
      if (round == 50) source->Add(pmu::WireFork(104, 104, 103, 103, ++time));
      if (round == 80) source->Add(pmu::WireComm(100, 100, "second", ++time, /*exec=*/true));
      if (round == 120) source->Add(WireMmap(100, 0x800000, "/bin/second", ++time));
    }
    return source;
  };
  const auto told = [](const std::vector<Sample>& samples) {
    std::vector<std::string> all;
    for (const Sample& sample : samples) {
      std::string text = absl::StrCat(sample.time_ns, " ", sample.thread->comm, " ",
                                      unwind::StackReasonName(sample.stack->verdict.reason));
      for (const auto& frame : sample.stack->frames) {
        absl::StrAppend(&text, " ", absl::Hex(frame->ip), "@",
                        frame->binary != nullptr ? frame->binary->path : "");
      }
      all.push_back(std::move(text));
    }
    return all;
  };
  // A live source's worker resolves itself.
  Make(script(/*patient=*/false), {.workers = 1}, CopyFormat());
  ASSERT_TRUE(RunToEnd().ok());
  const std::vector<std::string> expected = told(sink_.samples());
  ASSERT_EQ(expected.size(), 2000u);
  EXPECT_GT(std::count_if(expected.begin(), expected.end(),
                          [](const std::string& text) {
                            return std::count(text.begin(), text.end(), '@') > 3;
                          }),
            500)
      << expected[0];
  EXPECT_GT(std::set(expected.begin(), expected.end()).size(), 1900u);
  const uint64_t undecodable = pipeline_->stats().undecodable_samples;

  sink_.Forget();
  done_ = false;
  Make(script(/*patient=*/true), {.workers = 1}, CopyFormat());
  ASSERT_TRUE(RunToEnd().ok());
  EXPECT_EQ(told(sink_.samples()), expected);
  EXPECT_EQ(pipeline_->stats().undecodable_samples, undecodable);

  // Nor does it where stacks stand apart, copied or let go as soon as they are unwound.
  for (const bool keeps : {false, true}) {
    SCOPED_TRACE(keeps);
    sink_.Forget();
    done_ = false;
    auto apart = script(/*patient=*/true);
    apart->SplitSamples(CopyFormat());
    if (keeps) apart->KeepRecords();
    Make(std::move(apart), {.workers = 1, .queue_bytes = 1}, CopyFormat());
    ASSERT_TRUE(RunToEnd().ok());
    EXPECT_EQ(told(sink_.samples()), expected);
    EXPECT_EQ(source_->kept() > 1900, keeps);
    EXPECT_EQ(source_->let_go() > source_->kept() / 4, keeps);
  }
}

TEST_F(PipelineTest, APatientSourceWaitsForASlowSink) {
  auto source = std::make_unique<ScriptedSource>(/*patient=*/true);
  for (uint64_t time = 1; time <= 20000; ++time) source->Add(SampleOf(100, time));
  Make(std::move(source), {.workers = 2, .queue_bytes = 1000});
  sink_.SlowDown(absl::Milliseconds(1));
  ASSERT_TRUE(RunToEnd().ok());
  const PipelineStats stats = pipeline_->stats();
  EXPECT_EQ(stats.dropped_queue_full, 0u);
  EXPECT_EQ(stats.side_band_dropped, 0u);
  EXPECT_EQ(sink_.samples().size(), 20000u);
}

TEST_F(PipelineTest, APatientSourceIsReadNoFurtherThanTheQueueHolds) {
  constexpr uint64_t kSamples = 100000;
  auto source = std::make_unique<ScriptedSource>(/*patient=*/true);
  for (uint64_t time = 1; time <= kSamples; ++time) source->Add(SampleOf(100, time));
  Make(std::move(source), {.workers = 1, .queue_bytes = 1000});
  sink_.Shut();
  Start();
  sink_.AwaitDeliverer();
  uint64_t before = 0;
  while (before != pipeline_->stats().source.samples) {
    before = pipeline_->stats().source.samples;
    absl::SleepFor(absl::Milliseconds(50));
  }
  // Three batches: at the worker, queued, and being filled.
  EXPECT_LT(before, kSamples / 5);
  sink_.Open();
  EXPECT_TRUE(AwaitEnd().ok());
  EXPECT_EQ(sink_.samples().size(), kSamples);
}

TEST_F(PipelineTest, ALiveSourceDropsSamplesButKeepsNamesAndCountsExactly) {
  constexpr uint64_t kSamples = 5000;
  auto source = std::make_unique<ScriptedSource>(/*patient=*/false);
  uint64_t time = 0;
  source->Add(SampleOf(100, ++time));
  source->AddCall([this] { sink_.AwaitDeliverer(); });  // the worker is stuck from here on
  for (uint64_t i = 0; i < kSamples; ++i) source->Add(SampleOf(100, ++time));
  source->Add(pmu::WireComm(100, 100, "renamed", ++time));
  source->AddCall([this] {
    EXPECT_GT(pipeline_->stats().dropped_queue_full, 0u);
    sink_.Open();
    sink_.AwaitSamples(1 + kSamples - pipeline_->stats().dropped_queue_full);
  });
  // There is room again: nothing more is dropped.
  for (int i = 0; i < 10; ++i) source->Add(SampleOf(100, ++time));
  Make(std::move(source), {.workers = 1, .queue_bytes = 16384});
  sink_.Shut();
  ASSERT_TRUE(RunToEnd().ok());
  CheckAccount();
  const PipelineStats stats = pipeline_->stats();
  EXPECT_EQ(stats.source.samples, 1 + kSamples + 10);
  EXPECT_EQ(stats.side_band_dropped, 0u);
  const std::vector<Sample> samples = sink_.samples();
  ASSERT_GE(samples.size(), 11u);
  EXPECT_GT(samples.size(), 100u);  // 16 KiB of them were kept
  EXPECT_LT(samples.size(), kSamples / 2);
  for (size_t i = samples.size() - 10; i < samples.size(); ++i) {
    EXPECT_EQ(samples[i].time_ns, time - (samples.size() - 1 - i));
    EXPECT_EQ(samples[i].thread->comm, "renamed");
  }
}

TEST_F(PipelineTest, BoundsAndCountsSideBandRecordsToo) {
  auto source = std::make_unique<ScriptedSource>(/*patient=*/false);
  source->Add(SampleOf(100, 1));
  source->AddCall([this] { sink_.AwaitDeliverer(); });
  for (uint64_t i = 0; i < 5000; ++i) source->Add(pmu::WireComm(100, 100, "name", 2 + i));
  source->AddCall([this] { sink_.Open(); });
  Make(std::move(source), {.workers = 1, .queue_bytes = 16384});
  sink_.Shut();
  ASSERT_TRUE(RunToEnd().ok());
  const uint64_t record = pmu::WireComm(1, 1, "name", 1).size() * 8 + sizeof(RecordBatch::Item);
  const uint64_t kept = 5000 - pipeline_->stats().side_band_dropped;
  EXPECT_GE(kept, 2 * 16384 / record);
  EXPECT_LE(kept, 2 * 16384 / record + 2);
  EXPECT_EQ(pipeline_->stats().dropped_queue_full, 0u);
}

TEST_F(PipelineTest, CountsSamplesThatCannotBeDecoded) {
  auto source = std::make_unique<ScriptedSource>(/*patient=*/true);
  source->Add(SampleOf(100, 1));
  pmu::Words lying = SampleOf(100, 2);
  lying[7] = 1000;  // a chain longer than its record
  source->Add(lying);
  source->Add(SampleOf(100, 3));
  Make(std::move(source));
  ASSERT_TRUE(RunToEnd().ok());
  EXPECT_EQ(pipeline_->stats().undecodable_samples, 1u);
  EXPECT_EQ(sink_.samples().size(), 2u);
  CheckAccount();
}

TEST_F(PipelineTest, KnowsWhatWasKnownBefore) {
  auto source = std::make_unique<ScriptedSource>(/*patient=*/true);
  source->Add(SampleOf(100, 1));
  source->Add(SampleOf(200, 2));
  Make(std::move(source), {.workers = 3});
  pmu::RecordWriter known;
  known.Comm(100, 100, "one");
  known.Comm(200, 200, "two");
  known.Mmap2(100, 100, 0x400000, 0x10000, 0, true, {}, "/bin/one");
  ASSERT_TRUE(RunToEnd(std::move(known)).ok());
  std::map<int32_t, Sample> by_pid;
  for (const Sample& sample : sink_.samples()) by_pid[sample.thread->pid] = sample;
  ASSERT_EQ(by_pid.size(), 2u);
  EXPECT_EQ(by_pid[100].thread->comm, "one");
  EXPECT_EQ(by_pid[200].thread->comm, "two");
  ASSERT_FALSE(by_pid[100].stack->frames.empty());
  ASSERT_NE(by_pid[100].stack->frames[0]->binary, nullptr);
  EXPECT_EQ(by_pid[100].stack->frames[0]->binary->path, "/bin/one");
  EXPECT_EQ(by_pid[200].stack->frames[0]->binary, nullptr);
}

TEST_F(PipelineTest, AForkedChildHasItsParentsMappingsUntilItExecutes) {
  // Enough children for each worker to have some that are not its own.
  constexpr int32_t kChildren = 40;
  auto source = std::make_unique<ScriptedSource>(/*patient=*/true);
  uint64_t time = 0;
  for (int32_t child = 1001; child <= 1000 + kChildren; ++child) {
    source->Add(pmu::WireFork(child, child, 100, 100, ++time));
    source->Add(SampleOf(child, ++time));
    source->Add(pmu::WireComm(child, child, "executed", ++time, /*exec=*/true));
    source->Add(SampleOf(child, ++time));
  }
  Make(std::move(source), {.workers = 4});
  pmu::RecordWriter known;
  known.Comm(100, 100, "parent");
  known.Mmap2(100, 100, 0x400000, 0x10000, 0, true, {}, "/bin/parent");
  ASSERT_TRUE(RunToEnd(std::move(known)).ok());
  std::map<int32_t, std::map<uint64_t, Sample>> by_child;
  for (const Sample& sample : sink_.samples()) {
    by_child[sample.thread->pid][sample.time_ns] = sample;
  }
  ASSERT_EQ(by_child.size(), static_cast<size_t>(kChildren));
  for (const auto& [pid, samples] : by_child) {
    ASSERT_EQ(samples.size(), 2u);
    const Sample& forked = samples.begin()->second;
    const Sample& executed = samples.rbegin()->second;
    EXPECT_EQ(forked.thread->comm, "parent");
    ASSERT_NE(forked.stack->frames[0]->binary, nullptr);
    EXPECT_EQ(forked.stack->frames[0]->binary->path, "/bin/parent");
    EXPECT_EQ(executed.thread->comm, "executed");
    EXPECT_EQ(executed.stack->frames[0]->binary, nullptr);
  }
}

TEST_F(PipelineTest, DeliversDeferredSamplesWithAndWithoutTheirAnswer) {
  auto source = std::make_unique<ScriptedSource>(/*patient=*/true);
  for (const uint64_t cookie : {7, 8}) {
    source->Add(pmu::Wire({.pid = 100,
                           .tid = 100,
                           .time = cookie,
                           .chain = {static_cast<uint64_t>(PERF_CONTEXT_KERNEL), 0xffffffff81000000,
                                     pmu::kContextUserDeferred, cookie},
                           .misc = PERF_RECORD_MISC_KERNEL}));
  }
  source->Add(pmu::WireOther(pmu::kRecordCallchainDeferred, PERF_RECORD_MISC_USER,
                             {7, 2, 0x400100, 0x400200}, 100, 100, 20));
  Make(std::move(source));
  ASSERT_TRUE(RunToEnd().ok());
  CheckAccount();
  std::map<uint64_t, Sample> samples;
  for (const Sample& sample : sink_.samples()) samples[sample.time_ns] = sample;
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[7].stack->frames.size(), 3u);
  EXPECT_EQ(samples[8].stack->frames.size(), 1u);
  EXPECT_EQ(samples[8].stack->verdict.reason, unwind::StackReason::kDeferredMissing);
}

// Who has a share in every sample.
class Sharer : public Subscriber {
 public:
  explicit Sharer(bool hurries) : hurries_(hurries) {}
  void Deliver(std::span<const Sample> samples) override {
    absl::MutexLock lock(&mutex_);
    ++calls_;
    for (const Sample& sample : samples) times_.push_back(sample.time_ns);
  }
  Haste haste() const override { return hurries_ ? Haste::kOnceRead : Haste::kNone; }
  bool WantsComm(absl::string_view) override { return true; }
  void Dropped(Drop) override { ADD_FAILURE(); }
  void Await(size_t samples) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [this, samples] { return times_.size() >= samples; };
    mutex_.Await(absl::Condition(&enough));
  }
  size_t calls() const {
    absl::MutexLock lock(&mutex_);
    return calls_;
  }
  std::vector<uint64_t> times() const {
    absl::MutexLock lock(&mutex_);
    return times_;
  }

 private:
  const bool hurries_;
  mutable absl::Mutex mutex_;
  size_t calls_ = 0;
  std::vector<uint64_t> times_;
};

class OpenGate : public SampleGate {
 public:
  explicit OpenGate(std::vector<Subscriber*> sharers) : sharers_(std::move(sharers)) {}
  void See(const pmu::RawRecord& record, std::vector<SampleShare>* shares) override {
    if (record.header->type != PERF_RECORD_SAMPLE) return;
    for (Subscriber* one : sharers_) shares->push_back({.subscriber = one});
  }
  void Attend() override {}
  absl::Duration MaxWait() const override { return kShortRound; }
  bool over() const override { return false; }

 private:
  const std::vector<Subscriber*> sharers_;
};

class SharedPipelineTest : public PipelineTest {
 protected:
  void MakeShared(std::unique_ptr<ScriptedSource> source) {
    Make(std::move(source), {.workers = 1, .gate = &gate_});
  }
  Sharer hurried_{/*hurries=*/true};
  Sharer patient_{/*hurries=*/false};
  OpenGate gate_{{&hurried_, &patient_}};
};

TEST_F(SharedPipelineTest, WhoDoesNotHurryGetsMoreAtOnceButAll) {
  constexpr uint64_t kBatches = 1000;
  auto source = std::make_unique<ScriptedSource>(/*patient=*/false);
  for (uint64_t time = 1; time <= kBatches; ++time) {
    source->Add(SampleOf(100, time));
    source->AddPause();
  }
  MakeShared(std::move(source));
  ASSERT_TRUE(RunToEnd().ok());
  EXPECT_EQ(hurried_.times().size(), kBatches);
  EXPECT_EQ(patient_.times(), hurried_.times());
  EXPECT_EQ(hurried_.calls(), kBatches);
  EXPECT_LT(patient_.calls(), kBatches / 2);
}

TEST_F(SharedPipelineTest, NothingIsHeldForLongWhenNothingFollows) {
  auto source = std::make_unique<ScriptedSource>(/*patient=*/false);
  source->Add(SampleOf(100, 1));
  source->RunOn();
  MakeShared(std::move(source));
  Start();
  patient_.Await(1);
  pipeline_->RequestStop();
  ASSERT_TRUE(AwaitEnd().ok());
  EXPECT_EQ(patient_.calls(), 1u);
}

TEST_F(SharedPipelineTest, WhoLeavesHasAllBefore) {
  auto source = std::make_unique<ScriptedSource>(/*patient=*/false);
  for (uint64_t time = 1; time <= 10; ++time) source->Add(SampleOf(100, time));
  absl::Notification gone;
  size_t had = 0;
  source->AddCall([&] {
    pipeline_->SendOff(&patient_, [&] {
      had = patient_.times().size();
      gone.Notify();
    });
    gone.WaitForNotification();
  });
  MakeShared(std::move(source));
  ASSERT_TRUE(RunToEnd().ok());
  EXPECT_EQ(had, 10u);
}

TEST_F(PipelineTest, StopsOnRequestAndDeliversWhatWasTaken) {
  auto source = std::make_unique<ScriptedSource>(/*patient=*/false);
  for (uint64_t time = 1; time <= 100; ++time) source->Add(SampleOf(100, time));
  source->RunOn();
  Make(std::move(source));
  Start();
  sink_.AwaitSamples(100);
  EXPECT_FALSE(done());
  pipeline_->RequestStop();
  EXPECT_TRUE(AwaitEnd().ok());
  EXPECT_TRUE(source_->finished());
  CheckAccount();
}

TEST_F(PipelineTest, StopsAtItsDeadline) {
  auto source = std::make_unique<ScriptedSource>(/*patient=*/false);
  source->RunOn();
  Make(std::move(source));
  pipeline_->set_deadline(absl::Now() + absl::Milliseconds(20));
  EXPECT_TRUE(RunToEnd().ok());
  EXPECT_TRUE(source_->finished());
}

TEST_F(PipelineTest, TellsWhyItEndedEarlyAndDeliversWhatCameBefore) {
  auto source = std::make_unique<ScriptedSource>(/*patient=*/true);
  source->Add(SampleOf(100, 1));
  source->AddError(absl::DataLossError("the recording is cut off"));
  source->Add(SampleOf(100, 2));
  Make(std::move(source));
  EXPECT_EQ(RunToEnd().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(sink_.samples().size(), 1u);
}

TEST_F(PipelineTest, CanBeGivenUpAtAnyTime) {
  auto source = std::make_unique<ScriptedSource>(/*patient=*/false);
  source->RunOn();
  Make(std::move(source));
  pipeline_.reset();  // never started
  source = std::make_unique<ScriptedSource>(/*patient=*/false);
  source->RunOn();
  Make(std::move(source));
  Start();
  pipeline_.reset();
  EXPECT_TRUE(done());
}

}  // namespace
}  // namespace lbrd::daemon

// How many LBR samples a second one core takes from the rings to interned stacks: recorded ones,
// the same again and again, in the recorded order and at the times of 4 million a second. Prints a
// Markdown table for each recording. Usage: lbr_rate_bench [--smoke | [--samples N] perf.data...]
//
// Everything runs on one thread, by the product's own code: rings in memory are filled (not
// measured), then merged in time order, copied into batches, decoded, resolved with their tasks'
// histories, interned and delivered. The same is done for the first parts of that way alone, in
// turns with all of it, so that the differences are what each part costs.
//
// --samples N: only the first N of each recording, over and over. What they touch is then in the
// processor's nearest cache: the difference is what memory costs.
//
// What a recording cannot show: code that the processor's caches do not know, since a recording's
// few hundred stacks come again and again. Which of its programs' files this machine has is said,
// since windows of others are not checked against their code.
// Without an argument: the recordings in $LBRD_RECORDINGS or ../shared/recordings; exits with 77
// if they are not there.
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "daemon/recording_files.h"
#include "daemon/session_tasks.h"
#include "daemon/unwind_totals.h"
#include "daemon/worker.h"
#include "pmu/perf_data.h"
#include "pmu/ring_order.h"

namespace lbrd::daemon {
namespace {

// Of this thread's own time: what others do on the machine meanwhile is not in it.
uint64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

struct StoredRecord {
  std::vector<uint64_t> words;
  uint32_t event = 0;
  pmu::SampleId who;
  const perf_event_header* header() const {
    return reinterpret_cast<const perf_event_header*>(words.data());
  }
};

// What a recording has: what is to be known before its samples, and these.
struct Recording {
  std::vector<WorkerEvent> events;
  std::vector<StoredRecord> known;
  std::vector<StoredRecord> samples;  // of LBR call stacks
  std::vector<pmu::RecordedBuildId> build_ids;
  double mean_depth = 0;  // of windows
  uint64_t last_ns = 0;
};

// Words before PERF_SAMPLE_TIME in a sample: its header, identifier, IP, and pid and tid.
size_t WordOfTime(const pmu::RecordFormat& format) {
  return 1 + ((format.sample_type & PERF_SAMPLE_IDENTIFIER) != 0) +
         ((format.sample_type & PERF_SAMPLE_IP) != 0) +
         ((format.sample_type & PERF_SAMPLE_TID) != 0);
}

std::optional<Recording> Load(const std::string& path) {
  auto source = pmu::PerfData::Open(path);
  if (!source.ok()) {
    std::fprintf(stderr, "%s: %s\n", path.c_str(), source.status().ToString().c_str());
    return std::nullopt;
  }
  Recording out;
  // perf writes the depth down; of a recording without it, that of every hardware since Skylake.
  const uint32_t recorded_depth = (*source)->info().lbr_depth;
  const uint32_t depth = recorded_depth != 0 ? recorded_depth : 32;
  for (const pmu::SourceEvent& event : (*source)->events()) {
    const bool lbr = (event.attr.sample_type & PERF_SAMPLE_BRANCH_STACK) != 0 &&
                     (event.attr.branch_sample_type & PERF_SAMPLE_BRANCH_CALL_STACK) != 0;
    out.events.push_back(
        {.format = event.format, .resolve = {.lbr_call_stack = lbr, .lbr_depth = depth}});
  }
  pmu::RawRecord raw;
  size_t calls = 0;
  for (;;) {
    const absl::StatusOr<pmu::ReadResult> read = (*source)->Next(&raw);
    if (!read.ok() || *read == pmu::ReadResult::kEnd) break;
    const auto* words = reinterpret_cast<const uint64_t*>(raw.header);
    StoredRecord record{{words, words + raw.header->size / 8}, raw.event, raw.who};
    if (raw.header->type != PERF_RECORD_SAMPLE) {
      // The recorded processes live on, and keep their histories.
      if (raw.header->type != PERF_RECORD_EXIT) out.known.push_back(std::move(record));
      continue;
    }
    const WorkerEvent& event = out.events[raw.event];
    const bool timed = (event.format.sample_type & PERF_SAMPLE_TIME) != 0;
    if (!event.resolve.lbr_call_stack || !timed) continue;
    const auto decoded = pmu::DecodeRaw(raw, event.format);
    if (!decoded.ok()) continue;
    calls += std::get<pmu::SampleRecord>(*decoded).branch_stack.branches.size();
    out.last_ns = std::max(out.last_ns, raw.who.time);
    out.samples.push_back(std::move(record));
  }
  out.build_ids = (*source)->info().build_ids;
  if (out.samples.empty()) {
    std::fprintf(stderr, "%s: no samples with LBR call stacks\n", path.c_str());
    return std::nullopt;
  }
  out.mean_depth = static_cast<double>(calls) / static_cast<double>(out.samples.size());
  return out;
}

// A ring in memory that is written as the kernel would.
class MemoryRing {
 public:
  static constexpr uint64_t kPage = 4096;
  static constexpr uint64_t kBytes = uint64_t{1} << 20;

  MemoryRing() : words_((kPage + kBytes) / 8), ring_(words_.data(), kPage, kBytes) {}
  pmu::Ring* ring() { return &ring_; }
  uint64_t room() { return kBytes - (control()->data_head - control()->data_tail); }
  void Write(const StoredRecord& record, size_t time_word, uint64_t time_ns) {
    for (size_t i = 0; i < record.words.size(); ++i) {
      const uint64_t word = i == time_word ? time_ns : record.words[i];
      words_[(kPage + (control()->data_head & (kBytes - 1))) / 8] = word;
      control()->data_head += 8;
    }
  }

 private:
  perf_event_mmap_page* control() { return reinterpret_cast<perf_event_mmap_page*>(words_.data()); }
  std::vector<uint64_t> words_;
  pmu::Ring ring_;
};

class CountingSink : public SampleSink {
 public:
  void Deliver(std::span<const Sample> samples) override {
    delivered += samples.size();
    if (!looks_) return;
    for (const Sample& sample : samples) {
      ++verdicts[absl::StrCat(unwind::StackStateName(sample.stack->verdict.state), " ",
                              unwind::StackReasonName(sample.stack->verdict.reason))];
      stacks.insert(sample.stack->id);
    }
  }
  void Look(bool looks) { looks_ = looks; }
  uint64_t delivered = 0;
  std::map<std::string, uint64_t> verdicts;
  std::set<uint64_t> stacks;

 private:
  bool looks_ = true;
};

class CountingFiles : public RecordingFiles {
 public:
  using RecordingFiles::RecordingFiles;
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> Open(
      int32_t pid, const unwind::FileIdentity& file) override {
    auto opened = RecordingFiles::Open(pid, file);
    ++asked;
    found += opened.ok() ? 1 : 0;
    return opened;
  }
  size_t asked = 0;
  size_t found = 0;
};

// As far as a sample goes.
enum Stage { kCopied, kOrdered, kDecoded, kResolved, kInterned, kStages };
constexpr const char* kStageNames[] = {
    "the rings copied as they are (memcpy)", "order: rings merged, records copied to batches",
    "+ decode", "+ stack: the process, its task's history, validation, stitching",
    "+ interned, and delivered (the whole way, by Worker)"};

class Measurement {
 public:
  Measurement(const Recording& recording, const std::string& path)
      : recording_(recording),
        files_(path, recording.build_ids),
        binaries_(&files_),
        processes_(&binaries_),
        resolver_(binaries_.rule_tables()),
        order_([this](const perf_event_header* header, pmu::SampleId* who, uint32_t* event) {
          const auto peeked = pmu::PeekRecord(header, recording_.events[event_].format);
          if (!peeked.has_value()) return false;
          *who = *peeked;
          *event = event_;
          return true;
        }),
        copy_(MemoryRing::kBytes * kRings) {
    std::vector<size_t> by_event(recording.events.size());
    for (const StoredRecord& sample : recording.samples) ++by_event[sample.event];
    event_ = static_cast<uint32_t>(std::max_element(by_event.begin(), by_event.end()) -
                                   by_event.begin());
    time_word_ = WordOfTime(recording.events[event_].format);
    for (MemoryRing& ring : rings_) order_.Add(ring.ring());
    // Both ways know the same processes.
    static_cast<void>(tasks_.Begin({}));
    static_cast<void>(more_tasks_.Begin({}));
    worker_ = std::make_unique<Worker>(&recording_.events, &binaries_,
                                       KernelNameSource(KernelNames{.missing = "not asked for"}),
                                       &sink_, &tasks_);
    RecordBatch known;
    for (const StoredRecord& record : recording.known) {
      known.Append(record.header(), record.event);
      TellProcesses(record);
    }
    worker_->Work(&known);
  }

  // A round of each stage in turn; the first ones, in which code is read and tables grow, are not
  // counted.
  void Run(size_t rounds) {
    for (size_t round = 0; round < rounds + kWarmUp; ++round) {
      sink_.Look(round < kWarmUp);
      for (int stage = 0; stage < kStages; ++stage) {
        Fill();
        const uint64_t before = NowNs();
        Drain(static_cast<Stage>(stage));
        const uint64_t ns = NowNs() - before;
        if (stage == kInterned) written_whole_ += written_;
        if (round < kWarmUp) continue;
        costs_[stage].push_back(static_cast<double>(ns) / static_cast<double>(written_));
      }
    }
  }

  // False: samples were lost on the way.
  bool Print(const std::string& name) {
    std::printf(
        "\n%s: %zu samples in %zu bytes each, %.1f calls a window, %zu distinct stacks; %zu of %zu "
        "mapped files are on this machine. %zu rings, %llu samples through the whole way.\n\n",
        name.c_str(), recording_.samples.size(), SampleBytes(), recording_.mean_depth,
        sink_.stacks.size(), files_.found, files_.asked, kRings,
        static_cast<unsigned long long>(sink_.delivered));
    const UnwindFigures now = UnwindTotals::OfProcess().Read();
    const auto grown = [&](UnwindFigures::Figure figure) {
      return static_cast<double>(now.figures[figure] - before_.figures[figure]);
    };
    std::printf("- found among the recent stacks: %.1f %%\n",
                100 * grown(UnwindFigures::kRecentStacks) / grown(UnwindFigures::kStacksInterned));
    uint64_t judged = 0;
    for (const auto& [verdict, count] : sink_.verdicts) judged += count;
    for (const auto& [verdict, count] : sink_.verdicts) {
      std::printf("- %s: %.1f %%\n", verdict.c_str(),
                  100.0 * static_cast<double>(count) / static_cast<double>(judged));
    }
    std::printf(
        "\n| as far as | ns a sample | this part, ns | million samples/s | times the copy |\n"
        "|---|---|---|---|---|\n");
    double last = 0;
    const double copy = Cost(kCopied);
    for (int stage = 0; stage < kStages; ++stage) {
      const double ns = Cost(stage);
      std::printf("| %s | %.0f | %.0f | %.2f | %.1f |\n", kStageNames[stage], ns,
                  stage == kCopied || stage == kOrdered ? ns : ns - last, 1e3 / ns, ns / copy);
      last = ns;
    }
    if (sink_.delivered == written_whole_) return true;
    std::fprintf(stderr, "%llu samples were written, %llu came out\n",
                 static_cast<unsigned long long>(written_whole_),
                 static_cast<unsigned long long>(sink_.delivered));
    return false;
  }

 private:
  static constexpr size_t kRings = 2;
  static constexpr size_t kWarmUp = 3;
  static constexpr uint64_t kStepNs = 250;                  // between two samples
  static constexpr size_t kBatchBytes = size_t{256} << 10;  // as daemon/pipeline

  size_t SampleBytes() const {
    size_t words = 0;
    for (const StoredRecord& sample : recording_.samples) words += sample.words.size();
    return words * 8 / recording_.samples.size();
  }

  // The lower quartile of all rounds: those that the rest of the machine disturbed least.
  double Cost(int stage) const {
    std::vector<double> sorted = costs_[static_cast<size_t>(stage)];
    std::sort(sorted.begin(), sorted.end());
    return sorted[sorted.size() / 4];
  }

  void TellProcesses(const StoredRecord& record) {
    const auto decoded =
        pmu::DecodeRecord(record.header(), FormatOf(recording_.events, record.event));
    if (!decoded.ok()) return;
    if (const auto* mmap = std::get_if<pmu::MmapRecord>(&*decoded)) processes_.Apply(*mmap);
    if (const auto* comm = std::get_if<pmu::CommRecord>(&*decoded)) {
      processes_.Apply(*comm);
      more_tasks_.Apply(*comm);
    }
    if (const auto* task = std::get_if<pmu::TaskRecord>(&*decoded)) {
      processes_.Apply(*task);
      more_tasks_.Apply(*task);
    }
  }

  // Writes samples, a ring for each CPU (of more than kRings CPUs several share one), until one is
  // full.
  void Fill() {
    written_ = 0;
    for (;;) {
      const StoredRecord& sample = recording_.samples[next_];
      if (sample.event == event_) {
        MemoryRing& ring = rings_[sample.who.cpu % kRings];
        if (ring.room() < sample.words.size() * 8) return;
        newest_ns_ += kStepNs;
        ring.Write(sample, time_word_, newest_ns_);
        ++written_;
      }
      if (++next_ == recording_.samples.size()) next_ = 0;
    }
  }

  // Takes all that is in the rings.
  void Drain(Stage stage) {
    if (stage == kCopied) {
      // By way of the rings' readers all the same, so that they are empty afterwards.
      size_t at = 0;
      for (MemoryRing& ring : rings_) ring.ring()->Refresh();
      for (MemoryRing& ring : rings_) {
        while (const perf_event_header* header = ring.ring()->Peek()) {
          std::memcpy(copy_.data() + at, header, header->size);
          at += header->size;
          ring.ring()->Advance();
        }
        ring.ring()->Release();
      }
      return;
    }
    // What was stamped before the round before last can go: everything.
    order_.BeginRound(newest_ns_ + 1);
    order_.BeginRound(newest_ns_ + 1);
    RecordBatch batch = worker_->queue().TakeSpare();
    while (const pmu::RingOrder::Next* next = order_.Pop()) {
      batch.Append(next->header, next->event);
      if (batch.bytes() < kBatchBytes) continue;
      Take(stage, std::exchange(batch, worker_->queue().TakeSpare()));
    }
    if (!batch.empty()) Take(stage, std::move(batch));
    order_.ReleaseAll();
  }

  void Take(Stage stage, RecordBatch batch) {
    worker_->queue().Push(std::move(batch));
    std::optional<RecordBatch> popped = worker_->queue().Pop();
    if (stage == kInterned) worker_->Work(&*popped);
    if (stage == kDecoded || stage == kResolved) TakeApart(stage, &*popped);
    worker_->queue().GiveBack(*std::move(popped));
  }

  void TakeApart(Stage stage, RecordBatch* popped) {
    for (const RecordBatch::Item& item : popped->items()) {
      const absl::StatusOr<pmu::Record> decoded =
          popped->Decode(item, recording_.events[item.event].format);
      const auto& sample = std::get<pmu::SampleRecord>(*decoded);
      seen_ += sample.branch_stack.branches.size();
      if (stage == kDecoded) continue;
      more_tasks_.Apply(sample);
      History history(&more_tasks_, sample.who);
      resolver_.Resolve(sample, recording_.events[item.event].resolve,
                        processes_.Get(sample.who.pid), &stack_, &history);
      seen_ += stack_.frames.size();
    }
  }

  // As daemon/worker has it.
  class History : public unwind::TaskHistory {
   public:
    History(SessionTasks* tasks, const pmu::SampleId& who) : tasks_(*tasks), who_(who) {}
    bool Load(unwind::CallHistory* history) override { return tasks_.LoadHistory(who_, history); }
    void Store(const unwind::CallHistory& history) override { tasks_.StoreHistory(who_, history); }

   private:
    SessionTasks& tasks_;
    const pmu::SampleId& who_;
  };

  const Recording& recording_;
  const UnwindFigures before_ = UnwindTotals::OfProcess().Read();
  CountingFiles files_;
  unwind::BinaryCache binaries_;
  TaskTable table_{65536}, more_table_{65536};
  SessionTasks tasks_{&table_, SessionTasks::Scope::kRecording};
  SessionTasks more_tasks_{&more_table_, SessionTasks::Scope::kRecording};
  CountingSink sink_;
  std::unique_ptr<Worker> worker_;
  // Of the parts that are measured without a worker.
  unwind::ProcessTable processes_;
  unwind::StackResolver resolver_;
  unwind::ResolvedStack stack_;

  std::array<MemoryRing, kRings> rings_;
  pmu::RingOrder order_;
  uint32_t event_ = 0;
  size_t time_word_ = 0;
  size_t next_ = 0;
  uint64_t newest_ns_ = recording_.last_ns;
  size_t written_ = 0;
  uint64_t written_whole_ = 0;
  size_t seen_ = 0;
  std::vector<std::byte> copy_;
  std::array<std::vector<double>, kStages> costs_;
};

std::vector<std::string> FindRecordings() {
  const char* set = std::getenv("LBRD_RECORDINGS");
  const std::string folder = set != nullptr ? set : "../shared/recordings";
  std::vector<std::string> found;
  for (const char* name : {"lbr-callstack-tgl-596.data", "emulated/arch-sys-6.19.data",
                           "emulated/legacy-deep60-6.19.data"}) {
    const std::string path = absl::StrCat(folder, "/", name);
    struct stat status;
    if (stat(path.c_str(), &status) == 0) found.push_back(path);
  }
  if (found.empty()) {
    std::fprintf(stderr,
                 "skipped: no recordings of LBR call stacks in %s; set LBRD_RECORDINGS to the "
                 "folder that has lbr-callstack-tgl-596.data\n",
                 folder.c_str());
  }
  return found;
}

int Main(int argc, char** argv) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);  // as lbrd does
  const bool smoke = argc == 2 && std::strcmp(argv[1], "--smoke") == 0;
  std::vector<std::string> paths;
  size_t samples = SIZE_MAX;
  if (argc > 1 && !smoke) {
    paths.assign(argv + 1, argv + argc);
    if (paths[0] == "--samples") {
      if (paths.size() < 3 || !absl::SimpleAtoi(paths[1], &samples) || samples == 0) {
        std::fprintf(stderr, "--samples N perf.data...: at least 1\n");
        return 2;
      }
      paths.erase(paths.begin(), paths.begin() + 2);
    }
  } else {
    paths = FindRecordings();
    if (paths.empty()) return 77;
  }
  bool good = true;
  for (const std::string& path : paths) {
    std::optional<Recording> recording = Load(path);
    if (!recording.has_value()) {
      good = false;
      continue;
    }
    recording->samples.resize(std::min(recording->samples.size(), samples));
    Measurement measurement(*recording, path);
    measurement.Run(smoke ? 2 : 200);
    good = measurement.Print(path) && good;
  }
  return good ? 0 : 1;
}

}  // namespace
}  // namespace lbrd::daemon

int main(int argc, char** argv) { return lbrd::daemon::Main(argc, argv); }

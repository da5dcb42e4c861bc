// What a frame costs: the fast unwinder against libunwind, over the same samples in one run; and
// what its tables cost. Prints Markdown tables. Usage: unwind_bench [--smoke | perf.data | ELF
// file]...
//
// With a recording (perf record --call-graph dwarf, made on this machine) its samples are taken as
// they come, and it is said on how many the two agree. Without, samples of this program itself.
#include <cstdio>
#include <cstring>
#include <ctime>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "pmu/perf_data.h"
#include "tests/unit/unwind/stepped_samples.h"
#include "unwind/dwarf_unwinder.h"
#include "unwind/fast_unwinder.h"
#include "unwind/process_table.h"
#include "unwind/recent_copies.h"
#include "unwind/unwind_rules_builder.h"

namespace lbrd::unwind {
namespace {

// Of this thread's own time: what others do on the machine meanwhile is not in it.
uint64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// Time by frames: of all samples, so that what a sample costs is in it.
struct Cost {
  uint64_t ns = 0;
  uint64_t frames = 0;
  double PerFrame() const {
    return frames == 0 ? 0 : static_cast<double>(ns) / static_cast<double>(frames);
  }
  template <typename Unwind>
  void Measure(Unwind unwind) {
    const uint64_t before = NowNs();
    frames += unwind();
    ns += NowNs() - before;
  }
};

struct StoredSample {
  int32_t pid = 0;
  int32_t tid = 0;
  const AddressSpace* space = nullptr;
  uint64_t abi = 0;
  uint64_t mask = 0;
  std::vector<uint64_t> values;
  std::vector<std::byte> stack;
  pmu::Registers registers() const { return {.abi = abi, .mask = mask, .values = values}; }
};

class Comparison {
 public:
  // `space` must stay as it is until the next Flush().
  void Add(int32_t pid, int32_t tid, const AddressSpace& space, const pmu::Registers& registers,
           std::span<const std::byte> stack) {
    batch_.push_back({pid, tid, &space, registers.abi, registers.mask,
                      std::vector<uint64_t>(registers.values.begin(), registers.values.end()),
                      std::vector<std::byte>(stack.begin(), stack.end())});
    if (batch_.size() == kBatch) Flush();
  }

  void Flush() {
    // Tables are built outside of the measurement, and shown for themselves.
    for (const StoredSample& sample : batch_) By(&warm_, sample);
    const auto pass = [&](FastUnwinder* unwinder, Cost* cost) {
      cost->Measure([&] {
        size_t frames = 0;
        for (const StoredSample& sample : batch_) frames += By(unwinder, sample) + 1;
        return frames;
      });
    };
    const auto their_pass = [&](Cost* cost) {
      cost->Measure([&] {
        size_t frames = 0;
        for (const StoredSample& sample : batch_) frames += ByLibunwind(&dwarf_, sample) + 1;
        return frames;
      });
    };
    pass(&natural_, &as_it_comes);
    pass(&warm_, &warm);
    // Once more, and with copies that were seen before taken for what they were.
    pass(&warm_, &each_unwound);
    same_taken.Measure([&] {
      size_t frames = 0;
      for (const StoredSample& sample : batch_) frames += ByCopies(sample) + 1;
      return frames;
    });
    their_pass(&libunwind);
    their_pass(&libunwind_warm);
    for (const StoredSample& sample : batch_) {
      if (samples++ % kColdEvery == 0) {
        cold_.ForgetRules();
        cold.Measure([&] { return By(&cold_, sample) + 1; });
        uncached.Measure([&] { return ByLibunwind(&uncached_, sample) + 1; });
      }
      Compare(sample);
    }
    batch_.clear();
  }

  void Print(const std::string& name) {
    const FastUnwinder::Counts& counts = natural_.counts();
    std::printf(
        "\n%s: %zu samples, %.1f frames each; complete %zu (libunwind %zu), with guesses "
        "%zu, handed over %zu; same frames as libunwind: %zu (%.3f %%)\n\n",
        name.c_str(), samples, static_cast<double>(warm.frames) / static_cast<double>(samples),
        complete, their_complete, with_guesses, handed_over, same,
        100.0 * static_cast<double>(same) / static_cast<double>(samples));
    for (const auto& [kind, count] : differences) {
      std::printf("- differ (ours / theirs) %s: %zu\n", kind.c_str(), count);
    }
    std::printf("\n| unwinder | ns a frame | ours, warm, is faster by |\n|---|---|---|\n");
    const auto row = [&](const char* what, const Cost& cost) {
      std::printf("| %s | %.1f | %.1f |\n", what, cost.PerFrame(),
                  cost.PerFrame() / warm.PerFrame());
    };
    row("ours, warm", warm);
    row("ours, as samples come", as_it_comes);
    row("ours, no rule cached", cold);
    row("libunwind with its cache, warm", libunwind_warm);
    row("libunwind with its cache, as samples come", libunwind);
    row("libunwind without cache", uncached);
    std::printf(
        "\nThe same copy as the thread's last one: %.1f %% of samples (%zu other than unwound). "
        "With looking for these a sample takes %.1f ns, without %.1f: %.3f of it.\n",
        100.0 * static_cast<double>(copies_.found()) / static_cast<double>(samples), wrongly_taken,
        same_taken.PerFrame() * FramesPerSample(same_taken),
        each_unwound.PerFrame() * FramesPerSample(each_unwound),
        static_cast<double>(same_taken.ns) / static_cast<double>(each_unwound.ns));
    const auto share = [&](uint64_t misses) {
      return 100.0 - 100.0 * static_cast<double>(misses) / static_cast<double>(counts.steps);
    };
    std::printf(
        "\nOf %llu look-ups %.2f %% hit the cache of their address space, %.2f %% that or "
        "the one of all processes. Tables: %zu bytes for %zu binaries.\n",
        static_cast<unsigned long long>(counts.steps), share(counts.cache_misses),
        share(counts.table_reads), tables.stats().bytes, tables.stats().tables);
  }

  RuleTables tables;
  Cost warm, as_it_comes, cold, libunwind, libunwind_warm, uncached, each_unwound, same_taken;
  size_t wrongly_taken = 0;
  size_t samples = 0, same = 0, complete = 0, their_complete = 0, with_guesses = 0, handed_over = 0;
  std::map<std::string, size_t> differences;

 private:
  // Emptying a cache of 512 KiB before each sample would take all the time there is.
  static constexpr size_t kColdEvery = 16;
  // Samples that are measured together: little enough to stay in a cache of the second level.
  static constexpr size_t kBatch = 64;

  // How many frames there are above the sampled one. The last step, which finds the end, is one
  // too.
  size_t By(FastUnwinder* unwinder, const StoredSample& sample) {
    frames_.clear();
    verdict_ = unwinder->Unwind(*sample.space, sample.registers(), sample.stack, &frames_);
    return frames_.size();
  }
  // As unwind/stack_resolver does it.
  size_t ByCopies(const StoredSample& sample) {
    const RecentCopies::Unwound* recent =
        copies_.Find(sample.tid, sample.space->generation(), sample.registers(), sample.stack);
    if (recent != nullptr) {
      frames_.assign(recent->frames.begin(), recent->frames.end());
      return frames_.size();
    }
    return ByOrTraced(&copies_, sample);
  }
  double FramesPerSample(const Cost& cost) const {
    return static_cast<double>(cost.frames) / static_cast<double>(samples);
  }
  size_t ByLibunwind(DwarfUnwinder* unwinder, const StoredSample& sample) {
    ips_.clear();
    their_verdict_ =
        unwinder->Unwind(sample.pid, *sample.space, sample.registers(), sample.stack, &ips_);
    return ips_.size();
  }

  void Compare(const StoredSample& sample) {
    // What is taken for an equal copy is what it is unwound to.
    ByCopiesForComparison(sample);
    const AddressSpace& space = *sample.space;
    const pmu::Registers registers = sample.registers();
    ByLibunwind(&dwarf_, sample);
    By(&warm_, sample);
    if (!verdict_.has_value()) {
      ++handed_over;
      return;
    }
    std::vector<uint64_t> ours;
    bool guessed = false;
    for (const UnwoundFrame& frame : frames_) {
      guessed = guessed || frame.guess;
      if (!frame.guess) ours.push_back(frame.ip);
    }
    complete += verdict_->state == StackState::kComplete;
    their_complete += their_verdict_.state == StackState::kComplete;
    with_guesses += guessed;
    if (ours == ips_) {
      ++same;
      return;
    }
    const std::string kind = absl::StrCat(
        StackStateName(verdict_->state), " ", StackReasonName(verdict_->reason), " / ",
        StackStateName(their_verdict_.state), " ", StackReasonName(their_verdict_.reason),
        ours.size() > ips_.size()   ? ", ours longer"
        : ours.size() < ips_.size() ? ", theirs longer"
                                    : ", other frames");
    if (differences[kind]++ >= 3) return;
    const uint64_t sampled = registers.Get(PERF_REG_X86_IP).value_or(0);
    for (const uint64_t ip :
         {ours.empty() ? sampled : ours.back(), ips_.empty() ? sampled : ips_.back()}) {
      const Mapping* mapping = space.Find(ip - 1);
      std::fprintf(stderr, "  %s: frames %zu / %zu, last %#lx in %s at %#lx\n", kind.c_str(),
                   ours.size(), ips_.size(), static_cast<unsigned long>(ip),
                   mapping != nullptr ? mapping->binary->path().c_str() : "nothing",
                   static_cast<unsigned long>(
                       mapping != nullptr ? mapping->FileAddress(ip).value_or(0) : 0));
    }
  }

  void ByCopiesForComparison(const StoredSample& sample) {
    const RecentCopies::Unwound* recent = compared_copies_.Find(
        sample.tid, sample.space->generation(), sample.registers(), sample.stack);
    if (recent == nullptr) {
      ByOrTraced(&compared_copies_, sample);
      return;
    }
    By(&warm_, sample);
    wrongly_taken += recent->frames != frames_ || recent->verdict != verdict_;
  }
  size_t ByOrTraced(RecentCopies* copies, const StoredSample& sample) {
    if (!copies->wants()) return By(&warm_, sample);
    frames_.clear();
    verdict_ =
        warm_.UnwindTraced(*sample.space, sample.registers(), sample.stack, &frames_, &trace_);
    if (verdict_.has_value()) copies->Put(trace_, frames_, *verdict_);
    return frames_.size();
  }

  FastUnwinder natural_{&tables};
  FastUnwinder warm_{&tables};
  FastUnwinder cold_{&tables};
  RecentCopies copies_;
  WalkTrace trace_;
  RecentCopies compared_copies_;
  DwarfUnwinder dwarf_;
  DwarfUnwinder uncached_{DwarfUnwinder::Caching::kOff};
  std::vector<StoredSample> batch_;
  std::vector<UnwoundFrame> frames_;
  std::vector<uint64_t> ips_;
  std::optional<Verdict> verdict_;
  Verdict their_verdict_;
};

[[gnu::noinline]] int Recurse(int depth, const std::function<void()>& leaf) {
  volatile int room[7] = {depth};
  if (depth == 0) {
    leaf();
  } else {
    room[1] = Recurse(depth - 1, leaf);
  }
  return room[0] + room[1];
}

void RunOnThisProgram(size_t max_samples, int rounds) {
  SteppedSamples recorded;
  const std::function<void()> leaf = [] {
    std::ostringstream out;
    for (int i = 0; i < 200; ++i)
      out << i * 0.37 << ' ' << std::string(static_cast<size_t>(i), 'x');
    char text[256];
    std::snprintf(text, sizeof(text), "%.40s %f", out.str().c_str(), 1.5);
  };
  recorded.Record([&] { Recurse(12, leaf); }, /*every=*/31, max_samples,
                  /*max_stack=*/16384);
  LiveFiles files;
  BinaryCache binaries(&files);
  const AddressSpace space = LiveSpace(&binaries);
  Comparison comparison;
  for (int round = 0; round < rounds; ++round) {
    for (const SteppedSamples::Sample& sample : recorded.samples()) {
      comparison.Add(1, 1, space, sample.registers(), sample.stack);
    }
  }
  comparison.Flush();
  comparison.Print("this program, stepped");
}

bool RunOnRecording(const std::string& path) {
  auto source = pmu::PerfData::Open(path);
  if (!source.ok()) {
    std::fprintf(stderr, "%s: %s\n", path.c_str(), source.status().ToString().c_str());
    return false;
  }
  LiveFiles files;
  BinaryCache binaries(&files);
  ProcessTable processes(&binaries);
  Comparison comparison;
  pmu::RawRecord raw;
  for (;;) {
    const absl::StatusOr<pmu::ReadResult> read = (*source)->Next(&raw);
    if (!read.ok() || *read == pmu::ReadResult::kEnd) break;
    const auto record = pmu::DecodeRaw(raw, (*source)->events()[raw.event].format);
    if (!record.ok()) continue;
    if (!std::holds_alternative<pmu::SampleRecord>(*record)) comparison.Flush();
    if (const auto* mmap = std::get_if<pmu::MmapRecord>(&*record)) processes.Apply(*mmap);
    if (const auto* comm = std::get_if<pmu::CommRecord>(&*record)) processes.Apply(*comm);
    if (const auto* task = std::get_if<pmu::TaskRecord>(&*record)) processes.Apply(*task);
    if (const auto* sample = std::get_if<pmu::SampleRecord>(&*record)) {
      if (sample->user_stack.empty() || sample->user_regs.abi != PERF_SAMPLE_REGS_ABI_64) continue;
      comparison.Add(sample->who.pid, sample->who.tid, processes.Get(sample->who.pid).space,
                     sample->user_regs, sample->user_stack);
    }
  }
  comparison.Flush();
  if (comparison.samples == 0) {
    std::fprintf(stderr, "%s: no samples with copies of the stack\n", path.c_str());
    return false;
  }
  comparison.Print(path);
  return true;
}

bool IsElf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  char magic[4] = {};
  file.read(magic, sizeof(magic));
  return std::memcmp(magic, "\177ELF", sizeof(magic)) == 0;
}

void PrintTables(const std::vector<std::string>& paths) {
  std::printf(
      "\n| binary | MB | rows | rules | full | table, KiB | bytes a row | built in, ms | ms "
      "a MB |\n|---|---|---|---|---|---|---|---|---|\n");
  size_t total = 0;
  for (const std::string& path : paths) {
    const std::shared_ptr<MemoryBytes> bytes = MemoryBytes::OfFile(path);
    if (bytes == nullptr) continue;
    const absl::StatusOr<ElfFile> elf = ElfFile::Parse(bytes);
    if (!elf.ok()) continue;
    const uint64_t before = NowNs();
    const UnwindRules rules = UnwindRulesBuilder::Build(*elf);
    const double ms = static_cast<double>(NowNs() - before) / 1e6;
    const double megabytes = static_cast<double>(bytes->size()) / 1e6;
    total += rules.bytes();
    std::printf(
        "| %s | %.1f | %zu | %zu | %zu | %.0f | %.2f | %.1f | %.2f |\n", path.c_str(), megabytes,
        rules.rows(), rules.rules(), rules.full_rules(), static_cast<double>(rules.bytes()) / 1024,
        static_cast<double>(rules.bytes()) / static_cast<double>(rules.rows()), ms, ms / megabytes);
  }
  std::printf("\nAll %zu: %.1f MiB\n", paths.size(), static_cast<double>(total) / (1 << 20));
}

int Main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--smoke") == 0) {
    RunOnThisProgram(/*max_samples=*/200, /*rounds=*/1);
    return 0;
  }
  std::vector<std::string> binaries;
  bool recording = false;
  for (int i = 1; i < argc; ++i) {
    if (IsElf(argv[i])) {
      binaries.emplace_back(argv[i]);
    } else {
      recording = RunOnRecording(argv[i]) || recording;
    }
  }
  if (argc == 1) {
    RunOnThisProgram(/*max_samples=*/4000, /*rounds=*/5);
    binaries = {"/usr/lib/x86_64-linux-gnu/libLLVM-14.so.1",
                "/usr/lib/gcc/x86_64-linux-gnu/12/cc1plus",
                "/usr/bin/gdb",
                "/usr/bin/python3",
                "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
                "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
                "/usr/lib/x86_64-linux-gnu/libc.so.6"};
  }
  if (!binaries.empty()) PrintTables(binaries);
  return argc > 1 && !recording && binaries.empty() ? 1 : 0;
}

}  // namespace
}  // namespace lbrd::unwind

int main(int argc, char** argv) { return lbrd::unwind::Main(argc, argv); }

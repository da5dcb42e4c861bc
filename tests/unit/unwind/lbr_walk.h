// Programs made of calls, a thread that walks over them, and its LBR: what stitching is tested on,
// with every stack known.
//
// A program is one file with code (the calls), symbols, and call frame information that says where
// the thread starts. The walk goes up and down between random depths and does work at each level.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/lbr.h"
#include "tests/sim/random.h"
#include "tests/unit/unwind/elf_image.h"
#include "unwind/address_space.h"
#include "unwind/call_history.h"
#include "unwind/lbr_stack.h"

namespace lbrd::unwind {

struct WalkedProgram {
  static constexpr uint64_t kBase = 0x400000;
  static constexpr uint64_t kCode = 0x1000;
  static constexpr uint64_t kFunctionBytes = 256;
  static constexpr uint64_t kCallBytes = 5;
  struct Site {
    size_t callee;
    bool tail = false;
  };
  // functions[0] is the thread's start.
  std::vector<std::vector<Site>> functions;

  static uint64_t Entry(size_t function) { return kBase + kCode + function * kFunctionBytes; }
  static uint64_t SiteAddress(size_t function, size_t site) {
    return Entry(function) + 16 + 16 * site;
  }
  uint64_t Bytes() const {
    return (kCode + functions.size() * kFunctionBytes + 4095) / 4096 * 4096;
  }

  std::shared_ptr<const Binary> ToBinary(FileSource* files) const {
    const auto word = [](uint32_t value) {
      return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
    };
    std::string code(functions.size() * kFunctionBytes, '\x90');
    std::vector<std::pair<std::string, Elf64_Sym>> symbols = {{"", {}}};
    for (size_t f = 0; f < functions.size(); ++f) {
      for (size_t s = 0; s < functions[f].size(); ++s) {
        const auto [callee, tail] = functions[f][s];
        const uint64_t from = SiteAddress(f, s);
        code.replace(from - kBase - kCode, kCallBytes,
                     (tail ? "\xe9" : "\xe8") +
                         word(static_cast<uint32_t>(Entry(callee) - from - kCallBytes)));
      }
      Elf64_Sym symbol{};
      symbol.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
      symbol.st_shndx = 1;
      symbol.st_value = Entry(f);
      symbol.st_size = kFunctionBytes;
      symbols.emplace_back(f == 0 ? "_start" : "f" + std::to_string(f), symbol);
    }
    // One CIE (version 1, "zR", return address 16), one FDE: the start returns to nobody.
    std::string frames = word(20) + word(0) + std::string("\x01zR\0\x01\x78\x10\x01\x1b", 9) +
                         std::string("\x0c\x07\x08\x90\x01\0\0", 7);
    const uint64_t address = kBase + Bytes();
    frames += word(16) + word(static_cast<uint32_t>(frames.size() + 4)) +
              word(static_cast<uint32_t>(Entry(0) - (address + frames.size() + 8))) +
              word(kFunctionBytes) + std::string("\0\x07\x10\0", 4) + word(0);

    ElfImage image;
    image.header().e_type = ET_EXEC;
    const uint32_t text = image.Add({.name = ".text",
                                     .flags = SHF_ALLOC | SHF_EXECINSTR,
                                     .address = kBase + kCode,
                                     .content = std::move(code)});
    image.AddSymbols(".symtab", SHT_SYMTAB, symbols);
    image.Add({.name = ".eh_frame", .flags = SHF_ALLOC, .address = address, .content = frames});
    image.AddSegment(PT_LOAD, PF_R | PF_X, text);
    auto elf = ElfFile::Parse(BytesOf(image.Build()));
    if (!elf.ok()) return nullptr;
    return std::make_shared<Binary>(FileIdentity{.path = "/walked"}, *std::move(elf), files, 1);
  }

  AddressSpace Space(FileSource* files) const {
    const std::shared_ptr<const Binary> binary = ToBinary(files);
    AddressSpace space;
    // As the segment stands in the file.
    space.Map({.start = Entry(0),
               .end = Entry(functions.size()),
               .file_offset = binary->elf()->segments()[0].offset,
               .binary = binary});
    return space;
  }
};

// start -> main -> f2 -> … -> f(depth), one call site each.
inline WalkedProgram ChainProgram(size_t depth) {
  WalkedProgram program;
  for (size_t f = 0; f < depth; ++f) program.functions.push_back({{f + 1}});
  program.functions.push_back({});
  return program;
}
// The same, and main calls f2 from two places.
inline WalkedProgram TwoCallersProgram(size_t depth) {
  WalkedProgram program = ChainProgram(depth);
  program.functions[1].push_back({2});
  return program;
}
// main -> f2, which calls itself from one place.
inline WalkedProgram RecursionProgram() { return {{{{1}}, {{2}}, {{2}}}}; }
// main -> f2 -> f3 -> f4 -> f2, and each calls leaves.
inline WalkedProgram MutualRecursionProgram() {
  return {{{{1}}, {{2}}, {{3}, {5}}, {{4}, {6}}, {{2}, {5}}, {}, {}}};
}
// A main loop: a trunk of functions with one caller each, then layers of functions that call two
// of the next layer: what is near the leaf has many callers.
inline WalkedProgram LayeredProgram(size_t trunk, size_t layers, bool tails) {
  WalkedProgram program = ChainProgram(trunk);
  constexpr size_t kWidth = 3;
  const size_t first = program.functions.size();
  for (size_t k = 0; k < kWidth; ++k) program.functions[first - 1].push_back({first + k});
  for (size_t layer = 0; layer < layers; ++layer) {
    for (size_t k = 0; k < kWidth; ++k) {
      std::vector<WalkedProgram::Site> sites;
      const size_t next = first + (layer + 1) * kWidth;
      if (layer + 1 < layers) {
        sites = {{next + k}, {next + (k + 1) % kWidth}};
        if (tails && layer % 4 == 3) sites.push_back({next + (k + 2) % kWidth, /*tail=*/true});
      }
      program.functions.push_back(std::move(sites));
    }
  }
  return program;
}
// Calls to anywhere, recursion and tail calls among them.
inline WalkedProgram RandomProgram(uint64_t seed) {
  sim::Random random(seed);
  WalkedProgram program{{{{1}}}};
  constexpr size_t kFunctions = 60;
  for (size_t f = 1; f < kFunctions; ++f) {
    std::vector<WalkedProgram::Site> sites;
    for (int s = 0; s < 4; ++s) {
      sites.push_back({random.Between(2, kFunctions - 1), f > 1 && random.Chance(100'000)});
    }
    program.functions.push_back(std::move(sites));
  }
  return program;
}

struct WalkOptions {
  uint32_t lbr_depth = 32;
  sim::LbrKind kind = sim::LbrKind::kArchitectural;
  size_t max_depth = 60;
  uint32_t long_jump = 0;  // chances per million steps
  uint32_t fiber = 0;
  uint64_t seed = 1;
};

class Walk {
 public:
  Walk(const WalkedProgram& program, const WalkOptions& options)
      : program_(program), options_(options), random_(options.seed), lbr_(options.lbr_depth) {
    other_ = stack_ = {{.function = 0, .call = {}}};
    lbr_.Reset();
  }

  void Step() {
    // A program starts up before it goes deep: what the LBR never held, nobody can know.
    const size_t max_depth = ++steps_ < kStartUp ? 8 : options_.max_depth;
    if (stack_.size() == target_ || program_.functions[stack_.back().function].empty()) {
      target_ = random_.Between(2, max_depth);
    }
    if (random_.Chance(options_.long_jump) && stack_.size() > 4) {
      stack_.resize(random_.Between(3, stack_.size() - 1));
      return;
    }
    if (random_.Chance(options_.fiber)) {
      std::swap(stack_, other_);
      return;
    }
    const auto& sites = program_.functions[stack_.back().function];
    if (!sites.empty() && (stack_.size() < target_ || stack_.size() <= 2)) {
      const size_t site = random_.Below(sites.size());
      const uint64_t from = WalkedProgram::SiteAddress(stack_.back().function, site);
      const Call call{from, WalkedProgram::Entry(sites[site].callee)};
      if (sites[site].tail) {
        stack_.back().function = sites[site].callee;
        return;
      }
      lbr_.Call(call.from, call.to);
      stack_.push_back({sites[site].callee, call});
    } else if (stack_.size() > 2) {
      lbr_.Return(0, 0, /*call_stack=*/true);
      stack_.pop_back();
    }
  }
  void Steps(uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) Step();
  }

  uint64_t ip() const { return WalkedProgram::Entry(stack_.back().function) + 8; }
  // The active calls, leaf first.
  std::vector<uint64_t> Truth() const {
    std::vector<uint64_t> from;
    for (size_t i = stack_.size(); i-- > 1;) from.push_back(stack_[i].call.from);
    return from;
  }
  size_t depth() const { return stack_.size(); }
  pmu::BranchStack Window() {
    window_.clear();
    for (uint32_t age = 0; age < lbr_.size(); ++age) window_.push_back(lbr_.entry(age));
    const uint64_t index = options_.kind == sim::LbrKind::kLegacy          ? lbr_.top_of_stack()
                           : options_.kind == sim::LbrKind::kArchitectural ? 0
                                                                           : ~uint64_t{0};
    return {.branches = window_, .hw_index = index};
  }

 private:
  struct Frame {
    size_t function;
    Call call;
  };
  static constexpr uint64_t kStartUp = 1000;
  const WalkedProgram& program_;
  const WalkOptions options_;
  uint64_t steps_ = 0;
  sim::Random random_;
  sim::Lbr lbr_;
  std::vector<Frame> stack_;
  std::vector<Frame> other_;  // of the other fiber
  size_t target_ = 2;
  std::vector<pmu::Branch> window_;
};

// One task's history, in memory.
class KeptHistory : public TaskHistory {
 public:
  bool Load(CallHistory* history) override {
    *history = kept_;
    return !kept_.calls.empty();
  }
  void Store(const CallHistory& history) override { kept_ = history; }

 private:
  CallHistory kept_;
};

// How samples fared.
struct WalkScore {
  uint64_t samples = 0;
  uint64_t whole = 0;         // said to be whole and sure, and is
  uint64_t likely = 0;        // stitched with a doubt, and right
  uint64_t likely_false = 0;  // stitched with a doubt, and wrong
  uint64_t cut = 0;           // said to be cut or unknown
  uint64_t falsely_sure = 0;  // said to be whole and sure, and is not
};

inline WalkScore ScoreWalk(const WalkedProgram& program, const WalkOptions& options,
                           uint64_t samples) {
  struct NoFiles : FileSource {
    absl::StatusOr<std::shared_ptr<const ByteSource>> Open(int32_t, const FileIdentity&) override {
      return absl::NotFoundError("none");
    }
    absl::StatusOr<std::shared_ptr<const ByteSource>> OpenDebug(int32_t,
                                                                const std::string&) override {
      return absl::NotFoundError("none");
    }
  } files;
  const AddressSpace space = program.Space(&files);
  RuleTables tables;
  FastUnwinder unwinder(&tables);
  LbrStack lbr(&unwinder);
  KeptHistory history;
  Walk walk(program, options);
  sim::Random pauses(options.seed + 1);
  WalkScore score;
  ResolvedStack stack;
  for (uint64_t i = 0; i < samples; ++i) {
    walk.Steps(pauses.Between(1, 40));
    stack.Clear();
    const pmu::BranchStack window = walk.Window();
    lbr.Resolve(space,
                {.window = window,
                 .depth = options.lbr_depth,
                 .user_ip = walk.ip(),
                 .in_kernel = false,
                 .time_ns = i},
                &history, &stack);
    lbr.Remember(&history);
    std::vector<uint64_t> from;
    for (const ResolvedFrame& frame : stack.frames) from.push_back(frame.ip);
    const bool right = from == walk.Truth();
    ++score.samples;
    if (IsWhole(stack.verdict)) {
      ++(right ? score.whole : score.falsely_sure);
    } else if (stack.verdict.state == StackState::kStitched) {
      ++(right ? score.likely : score.likely_false);
    } else {
      ++score.cut;
    }
  }
  return score;
}

}  // namespace lbrd::unwind

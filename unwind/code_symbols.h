// Names of code that comes and goes at run time: address and time -> name.
//
// A JIT compiler moves code and uses addresses again, and the kernel does with BPF programs, so
// what stood at an address depends on when. A later piece of code hides what it overlaps from its
// time on. Pieces that say no time (0) replace each other.
//
// Bounds: every byte is charged to a budget that many tables share; a piece that it has no room for
// is not taken, and counted. One piece costs some 200 bytes and its name. The last kMaxVersions of
// a place are remembered; a piece over more than kMaxCovered others makes their past forgotten.
//
// Thread rules: one owner. The budget may be shared between threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/strings/string_view.h"

namespace lbrd::unwind {

class CodeBudget {
 public:
  static constexpr size_t kDefaultBytes = size_t{256} << 20;
  explicit CodeBudget(size_t bytes = kDefaultBytes) : bytes_(bytes) {}
  bool Take(size_t bytes);  // false: there is not so much left
  void Use(size_t bytes) { used_.fetch_add(bytes, std::memory_order_relaxed); }
  void Return(size_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }
  size_t used() const { return used_.load(std::memory_order_relaxed); }

 private:
  const size_t bytes_;
  std::atomic<size_t> used_ = 0;
};

// From `address` on, the code comes from this line.
struct CodeLine {
  uint64_t address = 0;
  uint32_t file = 0;  // as AddFile() said
  uint32_t line = 0;
};

struct CodeSymbol {
  uint64_t id = 0;         // of this piece of code, unique in the process; never 0
  absl::string_view name;  // until the next Add()
  uint64_t start = 0;
  uint64_t size = 0;
  absl::string_view file;  // empty: unknown
  uint32_t line = 0;       // 0: unknown
};

class CodeSymbols {
 public:
  static constexpr size_t kMaxVersions = 32;
  static constexpr size_t kMaxCovered = 64;
  static constexpr size_t kMaxFiles = 65536;

  // Borrows `budget`.
  explicit CodeSymbols(CodeBudget* budget) : budget_(budget) {}
  CodeSymbols(const CodeSymbols&) = delete;
  CodeSymbols& operator=(const CodeSymbols&) = delete;
  ~CodeSymbols() { Clear(); }

  // Code stands at [start, start + size) from `time_ns` on. False: empty, wraps around, or no room.
  // `lines` in order of address, with files that AddFile() gave.
  bool Add(uint64_t start, uint64_t size, absl::string_view name, uint64_t time_ns,
           std::vector<CodeLine> lines = {});
  // The code that begins at `from` goes to `to`. False: none does.
  bool Move(uint64_t from, uint64_t to, uint64_t time_ns);
  // It stands there no longer.
  void Remove(uint64_t start, uint64_t size, uint64_t time_ns);
  // The number of a file for CodeLine; nullopt: no room.
  std::optional<uint32_t> AddFile(absl::string_view path);
  void Clear();

  // What stood at `address` at `time_ns`.
  std::optional<CodeSymbol> Find(uint64_t address, uint64_t time_ns) const;
  bool empty() const { return segments_.empty(); }
  size_t size() const { return codes_.size(); }
  uint64_t refused() const { return refused_; }

 private:
  struct Code {
    uint64_t id;
    uint64_t start;
    uint64_t size;
    std::string name;
    std::vector<CodeLine> lines;
  };
  static constexpr uint32_t kNoCode = UINT32_MAX;
  struct Version {
    uint64_t time_ns;
    uint32_t code;  // index into codes_; kNoCode: nothing
  };
  struct Segment {
    uint64_t end;
    absl::InlinedVector<Version, 1> versions;  // by time
  };

  bool Charge(size_t bytes);   // what may be refused
  void Account(size_t bytes);  // what a piece that was taken needs besides
  const Code* CodeAt(uint64_t address, uint64_t time_ns) const;
  void SplitAt(uint64_t address);
  void Put(uint64_t start, uint64_t end, Version version);
  void Insert(Segment& segment, Version version);

  CodeBudget* const budget_;
  size_t charged_ = 0;
  uint64_t refused_ = 0;
  std::vector<Code> codes_;
  std::vector<std::string> files_;
  absl::btree_map<uint64_t, Segment> segments_;  // by start, disjoint
};

}  // namespace lbrd::unwind

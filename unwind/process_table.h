// The processes a worker owns, kept up to date by their records in time order.
//
// Bounds: at most kMaxProcesses; the longest untouched is forgotten (and counted) beyond that.
// Thread rules: one owner.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "pmu/record.h"
#include "unwind/address_space.h"
#include "unwind/thread_names.h"

namespace lbrd::unwind {

class JitCode;

struct Process {
  int32_t pid = -1;
  // Its parent, the parent's parent and so on, as they were seen to fork; -1: not seen. They mostly
  // outlive it and see the same files.
  std::array<int32_t, 3> elders = {-1, -1, -1};
  AddressSpace space;
  ThreadNames comms;
  std::shared_ptr<JitCode> jit;                // null: it was not seen to make code
  const std::string& Comm(int32_t tid) const;  // empty: unknown
};

class ProcessTable {
 public:
  static constexpr size_t kMaxProcesses = 1u << 16;

  // Whether it keeps what is known of code made at run time: its names are for one user only.
  enum class Jit { kKept, kLeftOut };

  // Borrows `binaries`.
  explicit ProcessTable(BinaryCache* binaries, Jit jit = Jit::kKept)
      : binaries_(binaries), jit_(jit) {}

  void Apply(const pmu::MmapRecord& record);
  void Apply(const pmu::CommRecord& record);
  void Apply(const pmu::TaskRecord& record);

  // The process of a sample; made (with nothing known) when it was never heard of.
  Process& Get(int32_t pid);
  size_t size() const { return processes_.size(); }
  uint64_t forgotten() const { return forgotten_; }

 private:
  struct Entry {
    Process process;
    std::list<int32_t>::iterator age;
  };
  BinaryCache* const binaries_;
  const Jit jit_;
  absl::flat_hash_map<int32_t, std::unique_ptr<Entry>> processes_;
  std::list<int32_t> by_age_;  // youngest first
  uint64_t forgotten_ = 0;
};

}  // namespace lbrd::unwind

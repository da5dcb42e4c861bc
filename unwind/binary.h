// One executable file, shared library or vdso, as unwinding and naming see it.
//
// Opened when first seen mapped, because a short-lived process takes its mount namespace with it;
// its symbols and call frame information are read when a frame first needs them. A file that is not
// here is fetched then too, where that is wanted: whoever needs something of it first may wait for
// minutes, and so do those who need it meanwhile. Immutable to its users.
//
// Thread rules: thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/base/call_once.h"
#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "unwind/code_symbols.h"
#include "unwind/elf_file.h"
#include "unwind/file_source.h"
#include "unwind/rule_tables.h"
#include "unwind/symbol_table.h"

namespace lbrd::unwind {

class JitCode;

class Binary {
 public:
  // Call frame information: the bytes of .eh_frame_hdr and of .eh_frame, and where they stand.
  struct UnwindInfo {
    uint64_t header_address = 0;
    std::vector<std::byte> header;
    uint64_t frames_address = 0;
    std::vector<std::byte> frames;
  };

  // A binary whose file could not be had: it has a path, and a reason in problem().
  Binary(FileIdentity identity, std::string problem);
  // The same, but `files` may be able to fetch it; they must outlive the binary.
  Binary(FileIdentity identity, std::string problem, FileSource* files);
  // `files` gives the debug file later; it must outlive the binary.
  Binary(FileIdentity identity, ElfFile elf, FileSource* files, int32_t pid);

  const FileIdentity& identity() const { return identity_; }
  const std::string& path() const { return identity_.path; }
  // Lower-case hex; empty: it has none, or it could not be read and none was recorded.
  const std::string& build_id() const;
  // Why the file could not be read; empty: it could.
  const std::string& problem() const;
  // False: memory that no file is behind.
  bool has_file() const;
  bool readable() const { return elf() != nullptr; }
  // nullptr: it could not be read.
  const ElfFile* elf() const;
  uint16_t machine() const { return readable() ? elf()->machine() : 0; }
  // Whether the file is here, and nobody has to wait for it.
  bool opened() const { return !may_fetch_ && elf_.has_value(); }

  // A file offset in the file's own address terms.
  std::optional<uint64_t> AddressOfOffset(uint64_t offset) const;
  // The file that holds its DWARF: itself, or its debug file. nullopt: neither is to be had.
  std::optional<ElfFile> DebugInfoFile() const;
  // Why no symbols could be read; empty: some were.
  const std::string& symbols_problem() const;
  std::optional<Symbol> FindSymbol(uint64_t address) const;
  // nullptr: it has no usable call frame information.
  const UnwindInfo* unwind_info() const;
  // Reads what the file puts at `address`. False: nothing does.
  bool ReadMemory(uint64_t address, std::span<std::byte> out) const;

 private:
  void Fetch() const;
  void LoadSymbols() const;
  void LoadUnwindInfo() const;

  FileIdentity identity_;
  FileSource* files_ = nullptr;
  int32_t pid_ = 0;
  // These two are Fetch()'s to change, where there is something to fetch.
  const bool may_fetch_ = false;
  mutable absl::once_flag fetch_once_;
  mutable std::string problem_;
  mutable std::optional<ElfFile> elf_;

  // Read once, by whoever comes first.
  mutable absl::once_flag symbols_once_;
  mutable std::optional<SymbolTable> symbols_;
  mutable std::string symbols_problem_;
  mutable absl::once_flag unwind_once_;
  mutable std::optional<UnwindInfo> unwind_;
};

inline const ElfFile* Binary::elf() const {
  if (may_fetch_) absl::call_once(fetch_once_, &Binary::Fetch, this);
  return elf_.has_value() ? &*elf_ : nullptr;
}

// All binaries seen, by identity, so that each file is read once however many processes map it. At
// most `capacity` are kept open beyond those still mapped; the longest unused goes first.
//
// Thread rules: thread-safe.
class BinaryCache {
 public:
  static constexpr size_t kDefaultCapacity = 4096;

  // Borrows `files`.
  explicit BinaryCache(FileSource* files, size_t capacity = kDefaultCapacity)
      : files_(files), capacity_(capacity) {}

  // The rules for unwinding of these binaries.
  RuleTables* rule_tables() { return &rule_tables_; }

  // What is known of the code that a process makes at run time.
  std::shared_ptr<JitCode> NewJitCode(int32_t pid, std::shared_ptr<JitCode> inherited);

  // Never null: what cannot be read is a Binary with a problem(). `elders`: processes that may see
  // the file too, should `pid` be gone; -1: none.
  std::shared_ptr<const Binary> Get(int32_t pid, const FileIdentity& identity,
                                    std::span<const int32_t> elders = {});

  // A file that went with the process that had it mapped is looked for again when others map it,
  // so many times.
  static constexpr int kTries = 16;

 private:
  struct Entry {
    std::shared_ptr<const Binary> binary;
    std::list<FileIdentity>::iterator age;
    int tries_left = 0;
  };
  // *gone: `pid` is, so that it may be had when another process maps it.
  std::shared_ptr<const Binary> Load(int32_t pid, const FileIdentity& identity,
                                     std::span<const int32_t> elders, bool* gone);
  // A binary that is known already under another identity, by its content.
  std::shared_ptr<const Binary> Unify(std::shared_ptr<const Binary> loaded)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  FileSource* const files_;
  const size_t capacity_;
  RuleTables rule_tables_;
  CodeBudget jit_budget_;  // of all processes
  absl::Mutex mutex_;
  absl::flat_hash_map<FileIdentity, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  std::list<FileIdentity> by_age_ ABSL_GUARDED_BY(mutex_);  // youngest first
  // Path and build ID -> the binary, so that an inode and a build ID of one file meet.
  absl::flat_hash_map<std::string, std::weak_ptr<const Binary>> by_content_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lbrd::unwind

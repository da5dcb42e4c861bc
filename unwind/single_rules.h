// Rules of one binary found one at a time, by the search table that the linker made
// (.eh_frame_hdr).
//
// To compile all of a large binary costs tens of milliseconds, which a process that is sampled some
// hundred times is not worth. A single rule costs a fifth of a microsecond. So rules are first
// taken one by one, until as much has been spent on them as the table would cost; whoever then
// makes the table has at most paid twice.
//
// Only answers that the table would give as well: where .debug_frame might know more, or the entry
// is odd, the table is to be asked. What a wrong search table can do is hide its own binary's code.
//
// Input is hostile: each look-up is one binary search, one entry and one function's instructions,
// of at most kMaxInstructionBytes. Memory: the parts of the two sections that were looked at, at
// most kMaxBytes, and what is kept of CIEs and full rules, 200 KiB and kMaxFullBytes.
//
// Thread rules: one user at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "unwind/bytes_in_parts.h"
#include "unwind/cfi_parser.h"
#include "unwind/cfi_program.h"
#include "unwind/elf_file.h"
#include "unwind/unwind_rules.h"

namespace lbrd::unwind {

class SingleRules {
 public:
  // Smaller binaries' tables are made at once; so are those of larger ones.
  static constexpr size_t kMinBytes = 32u << 10;
  static constexpr size_t kMaxBytes = 16u << 20;
  static constexpr size_t kMaxInstructionBytes = 64u << 10;
  // Of an entry, beside its instructions.
  static constexpr size_t kMaxEntryBytes = kMaxInstructionBytes + 4096;
  static constexpr size_t kMaxCies = 256;
  static constexpr size_t kMaxFullBytes = 256u << 10;  // of full rules that are kept, and one more
  // Bytes of .eh_frame that are compiled to a table in the time of one look-up.
  static constexpr size_t kBytesPerLookUp = 8;
  // A function with so many bytes of instructions counts as one look-up more, so that all look-ups
  // together are linear in the section, whoever wrote it.
  static constexpr size_t kBytesOfOneLookUp = 64;
  // To read a part of the file takes as long as so many look-ups.
  static constexpr size_t kLookUpsOfOnePart = 8;

  // nullptr: not for this binary.
  static std::unique_ptr<SingleRules> Open(const ElfFile& elf);

  // The rule at an address in the file's own terms. nullopt: the table has to be asked.
  std::optional<UnwindRule> Find(uint64_t address);
  // The full rule there, as number 0, where Find() says kByAddress; nullptr: it does not.
  std::shared_ptr<const UnwindRules> FindFull(uint64_t address);
  // As much has been spent as the table costs.
  bool spent() const {
    return look_ups_ + parts_read() * kLookUpsOfOnePart >= frames_.size() / kBytesPerLookUp;
  }
  size_t bytes() const {
    return parts_read() * BytesInParts::kPartBytes + cies_.size() * sizeof(KnownCie) + full_bytes_;
  }

 private:
  struct KnownCie {
    std::optional<Cie> cie;  // nullopt: not usable
    CfiRow initial;
  };

  // A function's information, and its row at an address.
  struct Place {
    const KnownCie* known = nullptr;
    const CfiRow* row = nullptr;  // nullptr: what is said of the address is not understood
  };
  enum class Found { kRow, kNoFunction, kOdd };

  SingleRules() = default;
  size_t parts_read() const { return frames_.parts_read() + header_.parts_read(); }
  Found FindPlace(uint64_t address, Place* place);
  // Of the search table: an address in the file's own terms. nullopt: it cannot be read.
  std::optional<uint64_t> AddressAt(size_t index, size_t field);
  // How many functions begin at or before `address`.
  std::optional<size_t> CountUpTo(uint64_t address);
  // The entry at `offset`, all of which has been read then. nullopt: none that is used here.
  std::optional<CfiEntry> EntryAt(size_t offset);
  const KnownCie* CieAt(size_t offset);

  BytesInParts frames_;
  BytesInParts header_;
  CfiSection section_;
  uint64_t header_address_ = 0;
  uint32_t count_ = 0;  // of the search table's entries
  uint64_t code_start_ = 0;
  uint64_t code_end_ = 0;
  uint64_t look_ups_ = 0;
  absl::flat_hash_map<size_t, KnownCie> cies_;
  CfiProgram program_;
  absl::flat_hash_map<uint64_t, std::shared_ptr<const UnwindRules>> full_;  // by address
  size_t full_bytes_ = 0;
};

}  // namespace lbrd::unwind

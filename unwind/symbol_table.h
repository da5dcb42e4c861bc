// Function symbols of one binary: file-own virtual address -> name.
//
// Built once per binary from .symtab, .dynsym and the PLT; sorted, deduplicated, names stored once
// and still mangled. Immutable after Build(), so any thread may look up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "unwind/elf_file.h"

namespace lbrd::unwind {

struct Symbol {
  absl::string_view name;  // mangled; lives as long as the table
  uint64_t start = 0;
  // Where the file gives none: up to the next symbol, or the end of the section.
  uint64_t size = 0;
};

class SymbolTable {
 public:
  // At most this many symbols are kept per binary (32 bytes and the name each).
  static constexpr size_t kMaxSymbols = 8u << 20;

  // Symbols of `binary`, and of `debug` (its separate debug file) when not null. Where several name
  // an address, the best name wins: a function's over a mere label's, global over weak over local,
  // then the one with fewer leading underscores, then the shorter. PLT entries are named
  // "function@plt" (x86-64 only). Fails only when there is something wrong with a source of symbols
  // and no other gives any; an ElfFile without symbols makes an empty table.
  static absl::StatusOr<SymbolTable> Build(const ElfFile& binary, const ElfFile* debug);

  // The function holding `address`, the innermost where functions overlap; nullopt: none does (a
  // gap is nobody's).
  std::optional<Symbol> Find(uint64_t address) const;
  // The address of a function by its (mangled) name, for tests and known thread starts.
  std::optional<uint64_t> AddressOf(absl::string_view name) const;

  size_t size() const { return entries_.size(); }
  size_t bytes() const;  // memory held

 private:
  struct Entry {
    uint64_t start;
    uint64_t size;
    uint32_t name;  // offset into names_
    uint32_t name_size;
    // The last entry before this one that reaches beyond this one's start; kNoEntry: none.
    uint32_t enclosing;
  };
  static constexpr uint32_t kNoEntry = UINT32_MAX;
  // How many overlapping functions Find() looks through.
  static constexpr int kMaxOverlap = 64;

  absl::string_view NameOf(const Entry& entry) const {
    return absl::string_view(names_).substr(entry.name, entry.name_size);
  }

  std::vector<Entry> entries_;  // by start
  std::string names_;
};

}  // namespace lbrd::unwind

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
  uint64_t size = 0;  // 0: unknown, reaches to the next symbol
};

class SymbolTable {
 public:
  // At most this many symbols are kept per binary (32 bytes and the name each).
  static constexpr size_t kMaxSymbols = 8u << 20;

  // Symbols of `binary`, and of `debug` (its separate debug file) when not null. Where both .symtab
  // and .dynsym name an address, the better name wins: global over weak over local, then the one
  // with fewer leading underscores, then the shorter. PLT entries are named "function@plt".
  static absl::StatusOr<SymbolTable> Build(const ElfFile& binary, const ElfFile* debug);

  // The function holding `address`; nullopt: none does (a gap is nobody's).
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
  };
  std::vector<Entry> entries_;  // by start
  std::string names_;
};

}  // namespace lbrd::unwind

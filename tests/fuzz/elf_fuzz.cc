// Any bytes as an ELF file, and as its own debug file: sections, symbols, address translation.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "tests/unit/unwind/memory_bytes.h"
#include "unwind/elf_file.h"
#include "unwind/symbol_table.h"

namespace {

using lbrd::unwind::ElfFile;
using lbrd::unwind::ElfSection;
using lbrd::unwind::ElfSegment;
using lbrd::unwind::Symbol;
using lbrd::unwind::SymbolTable;

void Check(bool holds) {
  if (!holds) std::abort();
}

void ExpectFoundWhereItIs(const SymbolTable& table, uint64_t address) {
  if (const std::optional<Symbol> symbol = table.Find(address)) {
    Check(symbol->start <= address && address - symbol->start < symbol->size);
    Check(!symbol->name.empty());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::StatusOr<ElfFile> file =
      ElfFile::Parse(std::make_shared<lbrd::unwind::MemoryBytes>(data, size));
  if (!file.ok()) return 0;
  for (const ElfSegment& segment : file->segments()) {
    const uint64_t last = segment.offset + segment.file_size - 1;
    for (const uint64_t offset : {segment.offset, last}) {
      const std::optional<uint64_t> address = file->AddressOfOffset(offset);
      Check(segment.file_size == 0 || address.has_value());
      if (address.has_value()) Check(file->OffsetOfAddress(*address).has_value());
    }
  }
  // Few of them: many may share one compressed stream, which nobody reads many times over.
  for (size_t i = 0; i < file->sections().size() && i < 16; ++i) {
    file->Read(file->sections()[i]).status().IgnoreError();
  }
  if (file->eh_frame_hdr().has_value()) {
    Check(file->eh_frame_hdr()->offset + file->eh_frame_hdr()->file_size <= size);
  }

  for (const ElfFile* debug : {static_cast<const ElfFile*>(nullptr), &*file}) {
    const absl::StatusOr<SymbolTable> table = SymbolTable::Build(*file, debug);
    if (!table.ok()) continue;
    Check(table->bytes() <= 64 * size + (1 << 20));
    for (const ElfSection& section : file->sections()) {
      for (const uint64_t offset :
           {uint64_t{0}, section.size / 2, section.size - 1, section.size}) {
        ExpectFoundWhereItIs(*table, section.address + offset);
      }
    }
    ExpectFoundWhereItIs(*table, 0);
    ExpectFoundWhereItIs(*table, UINT64_MAX);
  }
  return 0;
}

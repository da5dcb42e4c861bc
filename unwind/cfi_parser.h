// The entries of .eh_frame and .debug_frame: common information entries (CIE) and the frame
// description entries (FDE) that name them.
//
// Format: Linux Standard Base 5.0, "Exception Frames"; DWARF 5, 6.4.1. Input is hostile: each entry
// is parsed on its own, within its bounds, in constant time; what cannot be read is left out. What
// is returned points into the section's bytes.
//
// Thread rules: none shared; const throughout.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "unwind/byte_reader.h"

namespace lbrd::unwind {

struct CfiSection {
  std::span<const std::byte> bytes;
  uint64_t address = 0;      // of the first byte, in the file's own terms
  bool debug_frame = false;  // else .eh_frame
};

struct Cie {
  uint64_t code_alignment = 1;
  int64_t data_alignment = 1;
  uint64_t return_register = 0;
  uint8_t pointer_encoding = 0;  // DW_EH_PE_…, of FDEs' addresses
  bool has_augmentation_data = false;
  bool signal_frame = false;
  std::span<const std::byte> instructions;
};

struct Fde {
  uint64_t start = 0;  // the code it is of, in the file's own terms
  uint64_t end = 0;    // exclusive; > start
  std::span<const std::byte> instructions;
};

// An entry's extent, before its content is looked at.
struct CfiEntry {
  enum class Kind : uint8_t { kTerminator, kCie, kFde };
  Kind kind = Kind::kTerminator;
  size_t next = 0;     // offset of the entry that follows
  size_t cie = 0;      // of an FDE: its CIE's offset
  size_t content = 0;  // offset of what follows the id
  bool is_64_bit = false;
};

// The entry at `offset`; nullopt: none can be there, nor behind it.
std::optional<CfiEntry> ReadCfiEntry(const CfiSection& section, size_t offset);

// nullopt: malformed, or of a kind that is not understood.
std::optional<Cie> ParseCie(const CfiSection& section, size_t offset);
std::optional<Fde> ParseFde(const CfiSection& section, const CfiEntry& entry, const Cie& cie);

// A pointer as DW_EH_PE_… says, at the reader's position in `section`. nullopt: it does not fit, or
// is relative to something that a file does not tell.
std::optional<uint64_t> ReadEncodedPointer(const CfiSection& section, uint8_t encoding,
                                           ByteReader* in);

// Calls visit(function's address, FDE's address) for each entry of an .eh_frame_hdr's table, at
// most as many as its bytes hold. False: it has no table, or one of an encoding that no linker
// writes.
template <typename Visit>
bool VisitEhFrameHeader(std::span<const std::byte> header, uint64_t address, Visit visit) {
  // Version 1; a 4-byte pc-relative pointer; a 4-byte count; 4-byte entries relative to the header.
  ByteReader in(header);
  const auto version = in.Read<uint8_t>();
  in.Read<uint8_t>();
  const auto count_encoding = in.Read<uint8_t>();
  const auto table_encoding = in.Read<uint8_t>();
  in.Read<int32_t>();
  const auto count = in.Read<uint32_t>();
  if (!in.ok() || version != 1 || count_encoding != 0x03 || table_encoding != 0x3b) return false;
  for (uint32_t i = 0; i < count; ++i) {
    const auto function = in.Read<int32_t>();
    const auto fde = in.Read<int32_t>();
    if (!in.ok()) break;
    visit(address + static_cast<uint64_t>(int64_t{function}),
          address + static_cast<uint64_t>(int64_t{fde}));
  }
  return true;
}

}  // namespace lbrd::unwind

// A bounds-checked reader of 64-bit little-endian ELF: just what unwinding and naming need.
//
// Input is hostile: every offset and size is checked against the source, every table is capped, and
// only the sections asked for are read. Costs memory only for what is returned. A missing or broken
// section table is no error, as it does not keep a file from running: there are no sections then.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "unwind/file_source.h"

namespace lbrd::unwind {

struct ElfSegment {  // PT_LOAD
  uint64_t offset = 0;
  uint64_t address = 0;  // virtual address in the file's own terms
  uint64_t file_size = 0;
  uint64_t memory_size = 0;
  bool executable = false;
  bool writable = false;  // what is in memory may not be what is in the file
};

struct ElfSection {
  std::string name;
  uint32_t type = 0;
  uint64_t flags = 0;
  uint64_t address = 0;
  uint64_t offset = 0;
  uint64_t size = 0;
  uint32_t link = 0;
  uint64_t entry_size = 0;
};

class ElfFile {
 public:
  // Largest section that Read() returns; larger ones are refused with kResourceExhausted.
  static constexpr uint64_t kMaxSectionBytes = uint64_t{512} << 20;

  // kInvalidArgument: not ELF, or malformed; kUnimplemented: 32-bit or big-endian.
  static absl::StatusOr<ElfFile> Parse(std::shared_ptr<const ByteSource> bytes);

  uint16_t machine() const { return machine_; }  // EM_X86_64, EM_AARCH64, …
  uint16_t type() const { return type_; }        // ET_EXEC, ET_DYN, …
  uint64_t entry() const { return entry_; }
  const std::string& build_id() const { return build_id_; }  // lower-case hex; empty: none
  const std::vector<ElfSegment>& segments() const { return segments_; }
  const std::vector<ElfSection>& sections() const { return sections_; }
  // PT_GNU_EH_FRAME, where .eh_frame_hdr is; nullopt: none, or not within the file.
  std::optional<ElfSegment> eh_frame_hdr() const { return eh_frame_hdr_; }

  const ElfSection* FindSection(absl::string_view name) const;
  // The section's bytes, decompressed where SHF_COMPRESSED says so. SHT_NOBITS gives kNotFound, an
  // unknown compression kUnimplemented.
  absl::StatusOr<std::vector<std::byte>> Read(const ElfSection& section) const;
  // The file-own virtual address of a file offset, by the PT_LOAD that holds it; the executable one
  // where several do.
  std::optional<uint64_t> AddressOfOffset(uint64_t offset) const;
  std::optional<uint64_t> OffsetOfAddress(uint64_t address) const;
  const std::shared_ptr<const ByteSource>& bytes() const { return bytes_; }

 private:
  std::shared_ptr<const ByteSource> bytes_;
  uint16_t machine_ = 0;
  uint16_t type_ = 0;
  uint64_t entry_ = 0;
  std::string build_id_;
  std::vector<ElfSegment> segments_;
  std::vector<ElfSection> sections_;
  std::optional<ElfSegment> eh_frame_hdr_;
};

}  // namespace lbrd::unwind

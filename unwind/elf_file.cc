#include "unwind/elf_file.h"

#include <elf.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "unwind/decompress.h"

namespace lbrd::unwind {
namespace {

static_assert(std::endian::native == std::endian::little, "ELF structures are read as they lie");

constexpr uint64_t kMaxSections = 65536;
constexpr uint64_t kMaxProgramHeaders = 4096;
constexpr uint64_t kMaxNoteBytes = 64 << 10;
constexpr int kMaxNotesRead = 64;
// Sections may share one long string as their names, so each copy is bounded.
constexpr size_t kMaxSectionNameBytes = 256;
constexpr uint64_t kMaxSectionNameTableBytes = 16 << 20;
constexpr size_t kMaxBuildIdBytes = 64;
constexpr uint32_t kElfCompressZstd = 2;  // ELFCOMPRESS_ZSTD, which older headers lack

// [offset, offset + size) lies in a file of `file_size` bytes.
bool Within(uint64_t offset, uint64_t size, uint64_t file_size) {
  return offset <= file_size && size <= file_size - offset;
}

bool Overflows(uint64_t start, uint64_t size) { return start + size < start; }

template <typename T>
absl::Status ReadOne(const ByteSource& bytes, uint64_t offset, T* out) {
  return bytes.ReadAt(offset, std::as_writable_bytes(std::span(out, 1)));
}

// `count` must be capped by the caller; nothing is allocated for what the file does not hold.
template <typename T>
absl::StatusOr<std::vector<T>> ReadTable(const ByteSource& bytes, uint64_t offset, uint64_t count) {
  if (!Within(offset, count * sizeof(T), bytes.size())) {
    return absl::InvalidArgumentError("a header table reaches beyond the end of the file");
  }
  std::vector<T> table(count);
  const absl::Status read = bytes.ReadAt(offset, std::as_writable_bytes(std::span(table)));
  if (!read.ok()) return read;
  return table;
}

// The build ID in the notes at [offset, offset + size), as lower-case hex; empty: there is none.
std::string FindBuildId(const ByteSource& bytes, uint64_t offset, uint64_t size,
                        uint64_t alignment) {
  size = std::min(size, kMaxNoteBytes);
  if (!Within(offset, size, bytes.size())) return {};
  std::vector<std::byte> notes(size);
  if (!bytes.ReadAt(offset, notes).ok()) return {};
  const uint64_t align = alignment == 8 ? 8 : 4;
  uint64_t at = 0;
  while (size - at >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr note;
    std::memcpy(&note, &notes[at], sizeof note);
    const uint64_t name = at + sizeof note;
    const uint64_t content = (name + note.n_namesz + align - 1) & ~(align - 1);
    if (!Within(content, note.n_descsz, size)) return {};
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof(ELF_NOTE_GNU) &&
        std::memcmp(&notes[name], ELF_NOTE_GNU, sizeof(ELF_NOTE_GNU)) == 0 && note.n_descsz > 0 &&
        note.n_descsz <= kMaxBuildIdBytes) {
      return absl::BytesToHexString(
          absl::string_view(reinterpret_cast<const char*>(&notes[content]), note.n_descsz));
    }
    at = (content + note.n_descsz + align - 1) & ~(align - 1);
    if (at > size) return {};
  }
  return {};
}

// Where the header tables are, with the extended counts of section 0 applied.
struct Tables {
  uint64_t section_offset = 0;
  uint64_t section_count = 0;
  uint64_t names_index = 0;
  uint64_t program_header_count = 0;
};

Tables LocateTables(const ByteSource& bytes, const Elf64_Ehdr& header) {
  Tables tables{.section_offset = header.e_shoff,
                .section_count = header.e_shnum,
                .names_index = header.e_shstrndx,
                .program_header_count = header.e_phnum};
  const bool extended =
      header.e_shnum == 0 || header.e_shstrndx == SHN_XINDEX || header.e_phnum == PN_XNUM;
  if (header.e_shoff == 0 || header.e_shentsize != sizeof(Elf64_Shdr)) {
    tables.section_count = 0;
  } else if (extended) {
    Elf64_Shdr first;
    if (!ReadOne(bytes, header.e_shoff, &first).ok()) {
      tables.section_count = 0;
    } else {
      if (header.e_shnum == 0) tables.section_count = first.sh_size;
      if (header.e_shstrndx == SHN_XINDEX) tables.names_index = first.sh_link;
      if (header.e_phnum == PN_XNUM) tables.program_header_count = first.sh_info;
    }
  }
  return tables;
}

std::vector<char> ReadSectionNames(const ByteSource& bytes, const std::vector<Elf64_Shdr>& headers,
                                   uint64_t index) {
  if (index >= headers.size()) return {};
  const Elf64_Shdr& header = headers[index];
  if (header.sh_type != SHT_STRTAB || header.sh_size > kMaxSectionNameTableBytes) return {};
  absl::StatusOr<std::vector<char>> names =
      ReadTable<char>(bytes, header.sh_offset, header.sh_size);
  return names.ok() ? *std::move(names) : std::vector<char>();
}

// The kernel and the dynamic linker run files whose section table is missing or nonsense, so that
// is no error: such a file has no sections.
std::vector<ElfSection> ReadSections(const ByteSource& bytes, const Tables& tables) {
  if (tables.section_count > kMaxSections) return {};
  const absl::StatusOr<std::vector<Elf64_Shdr>> headers =
      ReadTable<Elf64_Shdr>(bytes, tables.section_offset, tables.section_count);
  if (!headers.ok()) return {};
  const std::vector<char> names = ReadSectionNames(bytes, *headers, tables.names_index);
  std::vector<ElfSection> sections;
  sections.reserve(headers->size());
  for (const Elf64_Shdr& header : *headers) {
    ElfSection section{.name = {},
                       .type = header.sh_type,
                       .flags = header.sh_flags,
                       .address = header.sh_addr,
                       .offset = header.sh_offset,
                       .size = header.sh_size,
                       .link = header.sh_link,
                       .entry_size = header.sh_entsize};
    if (header.sh_name < names.size()) {
      const char* name = names.data() + header.sh_name;
      section.name.assign(
          name, strnlen(name, std::min(names.size() - header.sh_name, kMaxSectionNameBytes)));
    }
    sections.push_back(std::move(section));
  }
  return sections;
}

absl::StatusOr<std::vector<std::byte>> DecompressSection(absl::string_view name,
                                                         std::span<const std::byte> content) {
  Elf64_Chdr header;
  if (content.size() < sizeof header) {
    return absl::InvalidArgumentError(absl::StrCat("section ", name, ": its header is cut off"));
  }
  std::memcpy(&header, content.data(), sizeof header);
  if (header.ch_type != ELFCOMPRESS_ZLIB && header.ch_type != kElfCompressZstd) {
    return absl::UnimplementedError(
        absl::StrCat("section ", name, " is compressed in a way ", header.ch_type, " not known"));
  }
  return Decompress(header.ch_type == kElfCompressZstd ? Compression::kZstd : Compression::kZlib,
                    content.subspan(sizeof header),
                    std::min(header.ch_size, ElfFile::kMaxSectionBytes));
}

}  // namespace

absl::StatusOr<ElfFile> ElfFile::Parse(std::shared_ptr<const ByteSource> bytes) {
  const uint64_t file_size = bytes->size();
  unsigned char ident[EI_NIDENT];
  if (file_size < sizeof ident) return absl::InvalidArgumentError("not an ELF file: too short");
  absl::Status read = ReadOne(*bytes, 0, &ident);
  if (!read.ok()) return read;
  if (std::memcmp(ident, ELFMAG, SELFMAG) != 0) {
    return absl::InvalidArgumentError("not an ELF file: no ELF magic");
  }
  if (ident[EI_CLASS] != ELFCLASS64 || ident[EI_DATA] != ELFDATA2LSB) {
    return absl::UnimplementedError("only 64-bit little-endian ELF files are read");
  }
  Elf64_Ehdr header;
  if (file_size < sizeof header) {
    return absl::InvalidArgumentError("malformed ELF file: its header is cut off");
  }
  read = ReadOne(*bytes, 0, &header);
  if (!read.ok()) return read;

  const Tables tables = LocateTables(*bytes, header);
  if (tables.program_header_count > kMaxProgramHeaders) {
    return absl::InvalidArgumentError(absl::StrCat(
        "malformed ELF file: it claims ", tables.program_header_count, " program headers"));
  }
  if (tables.program_header_count > 0 && header.e_phentsize != sizeof(Elf64_Phdr)) {
    return absl::InvalidArgumentError(
        absl::StrCat("malformed ELF file: program headers of ", header.e_phentsize, " bytes"));
  }
  const absl::StatusOr<std::vector<Elf64_Phdr>> program_headers =
      ReadTable<Elf64_Phdr>(*bytes, header.e_phoff, tables.program_header_count);
  if (!program_headers.ok()) {
    return absl::Status(
        program_headers.status().code(),
        absl::StrCat("program headers of an ELF file: ", program_headers.status().message()));
  }

  ElfFile file;
  file.machine_ = header.e_machine;
  file.type_ = header.e_type;
  file.entry_ = header.e_entry;
  int notes_read = 0;
  for (const Elf64_Phdr& program_header : *program_headers) {
    const ElfSegment segment{.offset = program_header.p_offset,
                             .address = program_header.p_vaddr,
                             .file_size = program_header.p_filesz,
                             .memory_size = program_header.p_memsz,
                             .executable = (program_header.p_flags & PF_X) != 0,
                             .writable = (program_header.p_flags & PF_W) != 0};
    if (Overflows(segment.offset, segment.file_size) ||
        Overflows(segment.address, std::max(segment.memory_size, segment.file_size))) {
      continue;
    }
    if (program_header.p_type == PT_LOAD) {
      file.segments_.push_back(segment);
    } else if (program_header.p_type == PT_GNU_EH_FRAME &&
               Within(segment.offset, segment.file_size, file_size)) {
      file.eh_frame_hdr_ = segment;
    } else if (program_header.p_type == PT_NOTE && file.build_id_.empty() &&
               notes_read++ < kMaxNotesRead) {
      file.build_id_ =
          FindBuildId(*bytes, segment.offset, segment.file_size, program_header.p_align);
    }
  }
  file.sections_ = ReadSections(*bytes, tables);
  // Debug files keep the program headers of the binary, whose offsets mean nothing in them.
  for (const ElfSection& section : file.sections_) {
    if (!file.build_id_.empty() || notes_read >= kMaxNotesRead) break;
    if (section.type != SHT_NOTE || (section.flags & SHF_COMPRESSED) != 0) continue;
    ++notes_read;
    // 8-byte alignment is that of .note.gnu.property alone.
    file.build_id_ = FindBuildId(*bytes, section.offset, section.size, 4);
  }
  file.bytes_ = std::move(bytes);
  return file;
}

const ElfSection* ElfFile::FindSection(absl::string_view name) const {
  for (const ElfSection& section : sections_) {
    if (section.name == name) return &section;
  }
  return nullptr;
}

absl::StatusOr<std::vector<std::byte>> ElfFile::Read(const ElfSection& section) const {
  if (section.type == SHT_NOBITS) {
    return absl::NotFoundError(absl::StrCat("section ", section.name, " has no bytes in the file"));
  }
  if (section.size > kMaxSectionBytes) {
    return absl::ResourceExhaustedError(absl::StrCat("section ", section.name, " has ",
                                                     section.size, " bytes, more than the ",
                                                     kMaxSectionBytes, " that are read"));
  }
  if (!Within(section.offset, section.size, bytes_->size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("section ", section.name, " reaches beyond the end of the file"));
  }
  std::vector<std::byte> content(section.size);
  const absl::Status read = bytes_->ReadAt(section.offset, content);
  if (!read.ok()) return read;
  if ((section.flags & SHF_COMPRESSED) != 0) return DecompressSection(section.name, content);
  return content;
}

std::optional<uint64_t> ElfFile::AddressOfOffset(uint64_t offset) const {
  std::optional<uint64_t> address;
  for (const ElfSegment& segment : segments_) {
    if (offset < segment.offset || offset - segment.offset >= segment.file_size) continue;
    address = segment.address + (offset - segment.offset);
    // Segments may share bytes of the file; it is code that is asked for.
    if (segment.executable) break;
  }
  return address;
}

std::optional<uint64_t> ElfFile::OffsetOfAddress(uint64_t address) const {
  for (const ElfSegment& segment : segments_) {
    if (address >= segment.address && address - segment.address < segment.file_size) {
      return segment.offset + (address - segment.address);
    }
  }
  return std::nullopt;
}

}  // namespace lbrd::unwind

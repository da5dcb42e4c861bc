// ELF files made up by tests: sections and segments in, bytes out.
#pragma once

#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "tests/unit/unwind/memory_bytes.h"

namespace lbrd::unwind {

class ElfImage {
 public:
  struct Section {
    std::string name;
    uint32_t type = SHT_PROGBITS;
    uint64_t flags = 0;
    uint64_t address = 0;
    std::string content = {};
    uint32_t link = 0;
    uint64_t entry_size = 0;
    uint64_t nobits_size = 0;  // SHT_NOBITS: its size
  };

  ElfImage() {
    header_.e_machine = EM_X86_64;
    sections_.emplace_back().type = SHT_NULL;
  }

  Elf64_Ehdr& header() { return header_; }
  Section& section(uint32_t index) { return sections_[index]; }

  uint32_t Add(Section section) {
    sections_.push_back(std::move(section));
    return static_cast<uint32_t>(sections_.size() - 1);
  }
  void AddSegment(const Elf64_Phdr& segment) { segments_.push_back({segment, 0}); }
  // A segment of a section's bytes.
  void AddSegment(uint32_t type, uint32_t flags, uint32_t section) {
    Elf64_Phdr segment = {};
    segment.p_type = type;
    segment.p_flags = flags;
    segments_.push_back({segment, section});
  }
  // Adds .symtab or .dynsym and its strings. Symbols are given with their names.
  uint32_t AddSymbols(const std::string& name, uint32_t type,
                      const std::vector<std::pair<std::string, Elf64_Sym>>& symbols) {
    std::string strings(1, '\0');
    std::string table(sizeof(Elf64_Sym), '\0');
    for (auto [symbol_name, symbol] : symbols) {
      symbol.st_name = static_cast<uint32_t>(strings.size());
      strings += symbol_name + '\0';
      table.append(reinterpret_cast<const char*>(&symbol), sizeof symbol);
    }
    const uint32_t link = Add({.name = ".str" + name, .type = SHT_STRTAB, .content = strings});
    return Add({.name = name,
                .type = type,
                .content = table,
                .link = link,
                .entry_size = sizeof(Elf64_Sym)});
  }

  void OmitSections() { omit_sections_ = true; }
  // Counts in section 0, as files with very many sections or segments have them.
  void UseExtendedNumbering() { extended_numbering_ = true; }

  std::string Build() {
    std::string bytes(sizeof(Elf64_Ehdr) + segments_.size() * sizeof(Elf64_Phdr), '\0');
    std::string names(1, '\0');
    std::vector<Elf64_Shdr> headers;
    Add({.name = ".shstrtab", .type = SHT_STRTAB});
    for (Section& section : sections_) {
      Elf64_Shdr header = {};
      if (!section.name.empty()) {
        header.sh_name = static_cast<uint32_t>(names.size());
        names += section.name + '\0';
      }
      if (section.name == ".shstrtab") section.content = names;
      bytes.resize((bytes.size() + 7) / 8 * 8);
      header.sh_type = section.type;
      header.sh_flags = section.flags;
      header.sh_addr = section.address;
      header.sh_offset = section.type == SHT_NULL ? 0 : bytes.size();
      header.sh_size = section.type == SHT_NOBITS ? section.nobits_size : section.content.size();
      header.sh_link = section.link;
      header.sh_entsize = section.entry_size;
      bytes += section.content;
      headers.push_back(header);
    }
    const auto names_index = static_cast<uint32_t>(headers.size() - 1);
    for (size_t i = 0; i < segments_.size(); ++i) {
      auto [segment, section] = segments_[i];
      if (section != 0) {
        segment.p_offset = headers[section].sh_offset;
        segment.p_vaddr = headers[section].sh_addr;
        segment.p_filesz = segment.p_memsz = headers[section].sh_size;
      }
      std::memcpy(&bytes[sizeof(Elf64_Ehdr) + i * sizeof segment], &segment, sizeof segment);
    }

    std::memcpy(header_.e_ident, ELFMAG, SELFMAG);
    header_.e_ident[EI_CLASS] = ELFCLASS64;
    header_.e_ident[EI_DATA] = ELFDATA2LSB;
    header_.e_ident[EI_VERSION] = EV_CURRENT;
    header_.e_version = EV_CURRENT;
    header_.e_type = ET_DYN;
    header_.e_ehsize = sizeof(Elf64_Ehdr);
    header_.e_phentsize = sizeof(Elf64_Phdr);
    header_.e_phoff = sizeof(Elf64_Ehdr);
    header_.e_phnum = static_cast<uint16_t>(segments_.size());
    if (!omit_sections_) {
      bytes.resize((bytes.size() + 7) / 8 * 8);
      header_.e_shoff = bytes.size();
      header_.e_shentsize = sizeof(Elf64_Shdr);
      header_.e_shnum = static_cast<uint16_t>(headers.size());
      header_.e_shstrndx = static_cast<uint16_t>(names_index);
      if (extended_numbering_) {
        headers[0].sh_size = headers.size();
        headers[0].sh_link = names_index;
        headers[0].sh_info = static_cast<uint32_t>(segments_.size());
        header_.e_shnum = 0;
        header_.e_shstrndx = SHN_XINDEX;
        header_.e_phnum = PN_XNUM;
      }
      for (const Elf64_Shdr& header : headers) {
        bytes.append(reinterpret_cast<const char*>(&header), sizeof header);
      }
    }
    std::memcpy(bytes.data(), &header_, sizeof header_);
    return bytes;
  }

 private:
  Elf64_Ehdr header_ = {};
  std::vector<Section> sections_;
  std::vector<std::pair<Elf64_Phdr, uint32_t>> segments_;
  bool omit_sections_ = false;
  bool extended_numbering_ = false;
};

inline std::string BuildIdNote(absl::string_view id) {
  const Elf64_Nhdr note = {
      .n_namesz = 4, .n_descsz = static_cast<uint32_t>(id.size()), .n_type = NT_GNU_BUILD_ID};
  std::string bytes(reinterpret_cast<const char*>(&note), sizeof note);
  bytes.append("GNU\0", 4);
  bytes.append(id.data(), id.size());
  bytes.resize((bytes.size() + 3) / 4 * 4);
  return bytes;
}

inline std::shared_ptr<const ByteSource> BytesOf(absl::string_view bytes) {
  return std::make_shared<MemoryBytes>(bytes.data(), bytes.size());
}

}  // namespace lbrd::unwind

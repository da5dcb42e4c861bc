// The smallest executable that has an identity: one loaded segment and a build ID.
#pragma once

#include <elf.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>

#include "tests/unit/unwind/memory_bytes.h"

namespace lbrd::unwind {

inline constexpr uint64_t kTinyAddress = 0x400000;  // of the file's first byte
inline constexpr uint64_t kTinyBytes = 0x1000;

// Its build ID is `id` 20 times.
inline std::shared_ptr<MemoryBytes> TinyElf(uint8_t id) {
  struct Note {
    Elf64_Nhdr header{.n_namesz = 4, .n_descsz = 20, .n_type = NT_GNU_BUILD_ID};
    char name[4] = {'G', 'N', 'U', 0};
    uint8_t id[20];
  } note;
  std::memset(note.id, id, sizeof(note.id));
  struct {
    Elf64_Ehdr header{};
    Elf64_Phdr load{};
    Elf64_Phdr notes{};
  } elf;
  std::memcpy(elf.header.e_ident, ELFMAG, SELFMAG);
  elf.header.e_ident[EI_CLASS] = ELFCLASS64;
  elf.header.e_ident[EI_DATA] = ELFDATA2LSB;
  elf.header.e_ident[EI_VERSION] = EV_CURRENT;
  elf.header.e_type = ET_EXEC;
  elf.header.e_machine = EM_X86_64;
  elf.header.e_version = EV_CURRENT;
  elf.header.e_phoff = sizeof(Elf64_Ehdr);
  elf.header.e_ehsize = sizeof(Elf64_Ehdr);
  elf.header.e_phentsize = sizeof(Elf64_Phdr);
  elf.header.e_phnum = 2;
  elf.load.p_type = PT_LOAD;
  elf.load.p_flags = PF_R | PF_X;
  elf.load.p_vaddr = kTinyAddress;
  elf.load.p_filesz = elf.load.p_memsz = kTinyBytes;
  elf.notes.p_type = PT_NOTE;
  elf.notes.p_offset = sizeof(elf);
  elf.notes.p_vaddr = kTinyAddress + sizeof(elf);
  elf.notes.p_filesz = elf.notes.p_memsz = sizeof(note);
  elf.notes.p_align = 4;
  std::vector<std::byte> bytes(kTinyBytes);
  std::memcpy(bytes.data(), &elf, sizeof(elf));
  std::memcpy(bytes.data() + sizeof(elf), &note, sizeof(note));
  return std::make_shared<MemoryBytes>(std::move(bytes));
}

inline std::string TinyBuildId(uint8_t id) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string hex;
  for (int i = 0; i < 20; ++i) hex += {kHex[id >> 4], kHex[id & 15]};
  return hex;
}

}  // namespace lbrd::unwind

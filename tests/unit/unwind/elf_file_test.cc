#include "unwind/elf_file.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/auxv.h>

#include <cstring>
#include <string>

#include "absl/strings/escaping.h"
#include "tests/unit/unwind/elf_image.h"
#include "tests/unit/unwind/memory_bytes.h"

namespace lbrd::unwind {
namespace {

constexpr char kId[] = "\x01\xab\xcd\xef";
constexpr char kIdHex[] = "01abcdef";

ElfImage ImageWithCode() {
  ElfImage image;
  const uint32_t text = image.Add({.name = ".text",
                                   .flags = SHF_ALLOC | SHF_EXECINSTR,
                                   .address = 0x401000,
                                   .content = "0123456789abcdef"});
  image.AddSegment(PT_LOAD, PF_R | PF_X, text);
  return image;
}

std::string TextOf(const absl::StatusOr<std::vector<std::byte>>& bytes) {
  if (!bytes.ok()) return bytes.status().ToString();
  return std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size());
}

TEST(ElfFileTest, ReadsSectionsAndSegments) {
  ElfImage image = ImageWithCode();
  image.header().e_entry = 0x401004;
  const absl::StatusOr<ElfFile> file = ElfFile::Parse(BytesOf(image.Build()));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->machine(), EM_X86_64);
  EXPECT_EQ(file->type(), ET_DYN);
  EXPECT_EQ(file->entry(), 0x401004u);
  EXPECT_EQ(file->build_id(), "");
  EXPECT_FALSE(file->eh_frame_hdr().has_value());
  ASSERT_EQ(file->sections().size(), 3u);
  const ElfSection* text = file->FindSection(".text");
  ASSERT_NE(text, nullptr);
  EXPECT_EQ(text->address, 0x401000u);
  EXPECT_EQ(TextOf(file->Read(*text)), "0123456789abcdef");
  EXPECT_EQ(file->FindSection(".data"), nullptr);
  ASSERT_EQ(file->segments().size(), 1u);
  EXPECT_TRUE(file->segments()[0].executable);
}

TEST(ElfFileTest, TranslatesBetweenOffsetsAndAddresses) {
  ElfImage image;
  const auto load = [](uint64_t offset, uint64_t address, uint64_t size, uint32_t flags) {
    return Elf64_Phdr{.p_type = PT_LOAD,
                      .p_flags = flags,
                      .p_offset = offset,
                      .p_vaddr = address,
                      .p_paddr = 0,
                      .p_filesz = size,
                      .p_memsz = size + 0x100,
                      .p_align = 0x1000};
  };
  image.AddSegment(load(0, 0, 0x300, PF_R));
  image.AddSegment(load(0x200, 0x401200, 0x80, PF_R | PF_X));
  image.AddSegment(load(0x240, 0x600240, 0x10, PF_R));
  const absl::StatusOr<ElfFile> file = ElfFile::Parse(BytesOf(image.Build()));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->AddressOfOffset(0x1ff), 0x1ffu);
  EXPECT_EQ(file->AddressOfOffset(0x200), 0x401200u) << "in both: that with code";
  EXPECT_EQ(file->AddressOfOffset(0x27f), 0x40127fu);
  EXPECT_EQ(file->AddressOfOffset(0x240), 0x401240u);
  EXPECT_EQ(file->AddressOfOffset(0x280), 0x280u);
  EXPECT_EQ(file->AddressOfOffset(0x300), std::nullopt);
  EXPECT_EQ(file->OffsetOfAddress(0x401200), 0x200u);
  EXPECT_EQ(file->OffsetOfAddress(0x40127f), 0x27fu);
  EXPECT_EQ(file->OffsetOfAddress(0x401280), std::nullopt) << "in memory only";
  EXPECT_EQ(file->OffsetOfAddress(0x4011ff), std::nullopt);
}

TEST(ElfFileTest, BuildIdIsThatOfTheNoteSegmentEvenWithoutSections) {
  ElfImage image;
  const uint32_t other = image.Add({.name = ".note.other", .content = BuildIdNote("")});
  image.section(other).content[sizeof(Elf64_Nhdr)] = 'X';
  const uint32_t note = image.Add({.name = ".note.gnu.build-id", .content = BuildIdNote(kId)});
  image.AddSegment(PT_NOTE, PF_R, other);
  image.AddSegment(PT_NOTE, PF_R, note);
  const uint32_t frames =
      image.Add({.name = ".eh_frame_hdr", .address = 0x5000, .content = "headers"});
  image.AddSegment(PT_GNU_EH_FRAME, PF_R, frames);
  image.OmitSections();
  const absl::StatusOr<ElfFile> file = ElfFile::Parse(BytesOf(image.Build()));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(file->sections().empty());
  EXPECT_EQ(file->build_id(), kIdHex);
  ASSERT_TRUE(file->eh_frame_hdr().has_value());
  EXPECT_EQ(file->eh_frame_hdr()->address, 0x5000u);
  EXPECT_EQ(file->eh_frame_hdr()->file_size, 7u);
}

TEST(ElfFileTest, BuildIdIsThatOfTheNoteSectionWhereSegmentsMeanNothing) {
  ElfImage image;
  image.AddSegment({.p_type = PT_NOTE,
                    .p_flags = PF_R,
                    .p_offset = 0x10,
                    .p_vaddr = 0,
                    .p_paddr = 0,
                    .p_filesz = 0x24,
                    .p_memsz = 0x24,
                    .p_align = 4});
  // An ABI note comes before it in the same section.
  std::string abi = BuildIdNote("some");
  abi[8] = NT_GNU_ABI_TAG;
  image.Add({.name = ".notes", .type = SHT_NOTE, .content = abi + BuildIdNote(kId)});
  const absl::StatusOr<ElfFile> file = ElfFile::Parse(BytesOf(image.Build()));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->build_id(), kIdHex);
}

TEST(ElfFileTest, ExtendedNumberingIsFollowed) {
  ElfImage image = ImageWithCode();
  image.UseExtendedNumbering();
  const absl::StatusOr<ElfFile> file = ElfFile::Parse(BytesOf(image.Build()));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->sections().size(), 3u);
  EXPECT_NE(file->FindSection(".text"), nullptr);
  EXPECT_EQ(file->segments().size(), 1u);
}

TEST(ElfFileTest, RefusesWhatIsNotElf) {
  const auto code_of = [](absl::string_view bytes) {
    return ElfFile::Parse(BytesOf(bytes)).status().code();
  };
  EXPECT_EQ(code_of(""), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of("#!/bin/sh\nexec something\n"), absl::StatusCode::kInvalidArgument);
  const std::string good = ImageWithCode().Build();
  EXPECT_EQ(code_of(good.substr(0, 40)), absl::StatusCode::kInvalidArgument);
  std::string bytes = good;
  bytes[EI_CLASS] = ELFCLASS32;
  EXPECT_EQ(code_of(bytes), absl::StatusCode::kUnimplemented);
  bytes = good;
  bytes[EI_DATA] = ELFDATA2MSB;
  EXPECT_EQ(code_of(bytes), absl::StatusCode::kUnimplemented);
}

TEST(ElfFileTest, RefusesProgramHeadersBeyondTheFile) {
  std::string bytes = ImageWithCode().Build();
  Elf64_Ehdr header;
  std::memcpy(&header, bytes.data(), sizeof header);
  for (const uint64_t offset : {uint64_t{bytes.size()}, UINT64_MAX, UINT64_MAX - 8}) {
    header.e_phoff = offset;
    std::memcpy(bytes.data(), &header, sizeof header);
    EXPECT_EQ(ElfFile::Parse(BytesOf(bytes)).status().code(), absl::StatusCode::kInvalidArgument);
  }
  header.e_phoff = 0;
  header.e_phnum = 5000;
  std::memcpy(bytes.data(), &header, sizeof header);
  EXPECT_EQ(ElfFile::Parse(BytesOf(bytes)).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ElfFileTest, ABrokenSectionTableIsNoSections) {
  const std::string good = ImageWithCode().Build();
  for (const uint64_t offset : {uint64_t{good.size() - 10}, UINT64_MAX}) {
    std::string bytes = good;
    Elf64_Ehdr header;
    std::memcpy(&header, bytes.data(), sizeof header);
    header.e_shoff = offset;
    for (const uint16_t count : {header.e_shnum, uint16_t{0}}) {
      header.e_shnum = count;
      std::memcpy(bytes.data(), &header, sizeof header);
      const absl::StatusOr<ElfFile> file = ElfFile::Parse(BytesOf(bytes));
      ASSERT_TRUE(file.ok()) << file.status();
      EXPECT_TRUE(file->sections().empty());
      EXPECT_EQ(file->segments().size(), 1u);
    }
  }
}

TEST(ElfFileTest, ReadSaysWhyASectionCannotBeHad) {
  ElfImage image;
  const uint32_t bss = image.Add({.name = ".bss", .type = SHT_NOBITS, .nobits_size = 1 << 20});
  const uint32_t packed = image.Add({.name = ".packed", .flags = SHF_COMPRESSED, .content = "x"});
  const absl::StatusOr<ElfFile> file = ElfFile::Parse(BytesOf(image.Build()));
  ASSERT_TRUE(file.ok()) << file.status();
  const auto code_of = [&](const ElfSection& section) {
    return file->Read(section).status().code();
  };
  EXPECT_EQ(code_of(file->sections()[bss]), absl::StatusCode::kNotFound);
  EXPECT_EQ(code_of(file->sections()[packed]), absl::StatusCode::kInvalidArgument);
  ElfSection section = file->sections()[packed];
  section.flags = 0;
  EXPECT_EQ(TextOf(file->Read(section)), "x");
  section.size = 1 << 20;
  EXPECT_EQ(code_of(section), absl::StatusCode::kInvalidArgument) << "beyond the end";
  section.offset = UINT64_MAX;
  EXPECT_EQ(code_of(section), absl::StatusCode::kInvalidArgument);
  section.size = ElfFile::kMaxSectionBytes + 1;
  EXPECT_EQ(code_of(section), absl::StatusCode::kResourceExhausted);
}

TEST(ElfFileTest, SectionNamesAreBounded) {
  ElfImage image;
  image.Add({.name = std::string(100000, 'n')});
  const absl::StatusOr<ElfFile> file = ElfFile::Parse(BytesOf(image.Build()));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->sections()[1].name, std::string(256, 'n'));
}

// No prefix of a file is read past its end, whatever it claims.
TEST(ElfFileTest, EveryTruncationIsSurvived) {
  ElfImage image = ImageWithCode();
  const uint32_t note = image.Add({.name = ".note", .type = SHT_NOTE, .content = BuildIdNote(kId)});
  image.AddSegment(PT_NOTE, PF_R, note);
  const std::string good = image.Build();
  for (size_t size = 0; size < good.size(); ++size) {
    const absl::StatusOr<ElfFile> file = ElfFile::Parse(BytesOf(good.substr(0, size)));
    if (!file.ok()) continue;
    for (const ElfSection& section : file->sections()) file->Read(section).status().IgnoreError();
  }
}

// The build ID that the dynamic linker has mapped for this very program.
std::string OwnBuildId() {
  std::string id;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* opaque) {
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const ElfW(Phdr)& header = info->dlpi_phdr[i];
          if (header.p_type != PT_NOTE) continue;
          const char* note = reinterpret_cast<const char*>(info->dlpi_addr + header.p_vaddr);
          if (header.p_memsz < 16 || std::memcmp(note + 8, "\3\0\0\0GNU", 8) != 0) continue;
          uint32_t size;
          std::memcpy(&size, note + 4, sizeof size);
          *static_cast<std::string*>(opaque) =
              absl::BytesToHexString(absl::string_view(note + 16, size));
        }
        return 1;
      },
      &id);
  return id;
}

TEST(ElfFileTest, ReadsThisProgram) {
  const std::shared_ptr<MemoryBytes> bytes = MemoryBytes::OfFile("/proc/self/exe");
  ASSERT_NE(bytes, nullptr);
  const absl::StatusOr<ElfFile> file = ElfFile::Parse(bytes);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->build_id(), OwnBuildId());
  EXPECT_TRUE(file->eh_frame_hdr().has_value());
  const ElfSection* text = file->FindSection(".text");
  ASSERT_NE(text, nullptr);
  EXPECT_EQ(file->AddressOfOffset(text->offset), text->address);
  EXPECT_EQ(file->OffsetOfAddress(text->address), text->offset);
  EXPECT_EQ(file->FindSection(".eh_frame_hdr")->address, file->eh_frame_hdr()->address);
}

TEST(ElfFileTest, ReadsTheVdso) {
  const auto* vdso = reinterpret_cast<const char*>(getauxval(AT_SYSINFO_EHDR));
  if (vdso == nullptr) GTEST_SKIP() << "the kernel gave this process no vdso";
  Elf64_Ehdr header;
  std::memcpy(&header, vdso, sizeof header);
  const uint64_t size = header.e_shoff + header.e_shnum * sizeof(Elf64_Shdr);
  const absl::StatusOr<ElfFile> file = ElfFile::Parse(BytesOf({vdso, size}));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->build_id().size(), 40u);
  EXPECT_NE(file->FindSection(".dynsym"), nullptr);
  EXPECT_TRUE(file->eh_frame_hdr().has_value());
}

}  // namespace
}  // namespace lbrd::unwind

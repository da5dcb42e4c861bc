#include "unwind/debug_file.h"

#include <elf.h>
#include <lzma.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cstdlib>
#include <filesystem>
#include <map>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/unit/unwind/elf_image.h"
#include "unwind/binary.h"
#include "unwind/decompress.h"

namespace lbrd::unwind {
namespace {

std::string Xz(const std::string& text) {
  std::string out(text.size() + 4096, '\0');
  size_t size = 0;
  EXPECT_EQ(lzma_easy_buffer_encode(0, LZMA_CHECK_CRC32, nullptr,
                                    reinterpret_cast<const uint8_t*>(text.data()), text.size(),
                                    reinterpret_cast<uint8_t*>(out.data()), &size, out.size()),
            LZMA_OK);
  out.resize(size);
  return out;
}

std::string Zlib(const std::string& text) {
  uLongf size = compressBound(text.size());
  std::string out(size, '\0');
  EXPECT_EQ(compress(reinterpret_cast<Bytef*>(out.data()), &size,
                     reinterpret_cast<const Bytef*>(text.data()), text.size()),
            Z_OK);
  out.resize(size);
  return out;
}

std::string Zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 1));
  return out;
}

std::span<const std::byte> BytesIn(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::string TextOf(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(DecompressTest, GivesBackWhatWasCompressed) {
  std::string text;
  for (int i = 0; i < 200'000; ++i) absl::StrAppend(&text, i % 77, ",");
  const std::pair<Compression, std::string> packed[] = {{Compression::kXz, Xz(text)},
                                                        {Compression::kZlib, Zlib(text)},
                                                        {Compression::kZstd, Zstd(text)}};
  for (const auto& [kind, bytes] : packed) {
    SCOPED_TRACE(static_cast<int>(kind));
    const auto whole = Decompress(kind, BytesIn(bytes), text.size());
    ASSERT_TRUE(whole.ok()) << whole.status();
    EXPECT_EQ(TextOf(*whole), text);
    EXPECT_EQ(Decompress(kind, BytesIn(bytes), text.size() - 1).status().code(),
              absl::StatusCode::kResourceExhausted);
    const std::string cut = bytes.substr(0, bytes.size() / 2);
    EXPECT_EQ(Decompress(kind, BytesIn(cut), text.size()).status().code(),
              absl::StatusCode::kDataLoss);
    EXPECT_EQ(Decompress(kind, BytesIn("no such stream"), 100).status().code(),
              absl::StatusCode::kDataLoss);
    EXPECT_FALSE(Decompress(kind, {}, 100).ok());
  }
}

TEST(ElfFileTest, ReadsCompressedSections) {
  const std::string text(100'000, 'x');
  ElfImage image;
  for (const auto& [type, packed] : {std::pair(1u, Zlib(text)), std::pair(2u, Zstd(text))}) {
    const Elf64_Chdr header{.ch_type = type, .ch_size = text.size(), .ch_addralign = 1};
    image.Add(
        {.name = absl::StrCat(".packed", type),
         .flags = SHF_COMPRESSED,
         .content = std::string(reinterpret_cast<const char*>(&header), sizeof header) + packed});
  }
  const Elf64_Chdr unknown{.ch_type = 99, .ch_size = 1};
  image.Add({.name = ".unknown",
             .flags = SHF_COMPRESSED,
             .content = std::string(reinterpret_cast<const char*>(&unknown), sizeof unknown)});
  const auto file = ElfFile::Parse(BytesOf(image.Build()));
  ASSERT_TRUE(file.ok());
  for (const char* name : {".packed1", ".packed2"}) {
    const auto bytes = file->Read(*file->FindSection(name));
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    EXPECT_EQ(TextOf(*bytes), text);
  }
  EXPECT_EQ(file->Read(*file->FindSection(".unknown")).status().code(),
            absl::StatusCode::kUnimplemented);
}

// A binary of one text section and no symbols, with more sections as asked for.
constexpr uint64_t kText = 0x1000;

ElfImage Stripped() {
  ElfImage image;
  const uint32_t text = image.Add({.name = ".text",
                                   .flags = SHF_ALLOC | SHF_EXECINSTR,
                                   .address = kText,
                                   .content = std::string(256, '\x90')});
  image.AddSegment(PT_LOAD, PF_R | PF_X, text);
  return image;
}

std::string WithSymbol(const std::string& name, const std::string& build_id = "") {
  ElfImage image = Stripped();
  image.AddSymbols(".symtab", SHT_SYMTAB,
                   {{name,
                     {.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
                      .st_shndx = 1,
                      .st_value = kText,
                      .st_size = 256}}});
  if (!build_id.empty()) {
    image.Add({.name = ".note.gnu.build-id", .type = SHT_NOTE, .content = BuildIdNote(build_id)});
  }
  return image.Build();
}

std::string LinkSection(const std::string& name, uint32_t crc) {
  std::string section = name + '\0';
  section.resize((section.size() + 3) / 4 * 4);
  section.append(reinterpret_cast<const char*>(&crc), sizeof crc);
  return section;
}

uint32_t CrcOf(const std::string& bytes) {
  return static_cast<uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size())));
}

class PathFiles : public FileSource {
 public:
  absl::StatusOr<std::shared_ptr<const ByteSource>> Open(int32_t,
                                                         const FileIdentity& file) override {
    return OpenPath(0, file.path);
  }
  absl::StatusOr<std::shared_ptr<const ByteSource>> OpenDebug(int32_t,
                                                              const std::string& id) override {
    return OpenPath(0, id);
  }
  absl::StatusOr<std::shared_ptr<const ByteSource>> OpenPath(int32_t,
                                                             const std::string& path) override {
    asked_.push_back(path);
    const auto found = files_.find(path);
    if (found == files_.end()) return absl::NotFoundError(path);
    return BytesOf(found->second);
  }
  absl::StatusOr<std::shared_ptr<const ByteSource>> FetchDebug(const FileIdentity& file) override {
    fetched_.push_back(file.build_id);
    const auto found = far_.find(file.build_id);
    if (found == far_.end()) return absl::NotFoundError("the server had none");
    return BytesOf(found->second);
  }
  std::map<std::string, std::string> files_;
  std::map<std::string, std::string> far_;  // by build ID
  std::vector<std::string> asked_;
  std::vector<std::string> fetched_;
};

class DebugFileTest : public testing::Test {
 protected:
  // The name that the binary at /opt/app/prog gives its only function; empty: none.
  std::string NameIn(const std::string& binary) {
    files_.files_["/opt/app/prog"] = binary;
    BinaryCache cache(&files_);
    const auto opened = cache.Get(1, {.path = "/opt/app/prog"});
    const std::optional<Symbol> symbol = opened->FindSymbol(kText + 4);
    return symbol.has_value() ? std::string(symbol->name) : "";
  }
  std::string Linked(uint32_t crc, const std::string& name = "prog.debug",
                     const std::string& build_id = "") {
    ElfImage image = Stripped();
    image.Add({.name = ".gnu_debuglink", .content = LinkSection(name, crc)});
    if (!build_id.empty()) {
      image.Add({.name = ".note.gnu.build-id", .type = SHT_NOTE, .content = BuildIdNote(build_id)});
    }
    return image.Build();
  }
  PathFiles files_;
};

TEST_F(DebugFileTest, FollowsALinkWhoseChecksumHolds) {
  const std::string debug = WithSymbol("linked");
  for (const char* path :
       {"/opt/app/prog.debug", "/opt/app/.debug/prog.debug", "/usr/lib/debug/opt/app/prog.debug"}) {
    files_.files_ = {{path, debug}};
    EXPECT_EQ(NameIn(Linked(CrcOf(debug))), "linked") << path;
    EXPECT_EQ(NameIn(Linked(CrcOf(debug) + 1)), "") << path;
  }
  // The first place holds another program's file.
  files_.files_ = {{"/opt/app/prog.debug", WithSymbol("other")},
                   {"/opt/app/.debug/prog.debug", debug}};
  EXPECT_EQ(NameIn(Linked(CrcOf(debug))), "linked");
}

TEST_F(DebugFileTest, BelievesBuildIdsRatherThanChecksums) {
  files_.files_["/opt/app/prog.debug"] = WithSymbol("same", "one build");
  EXPECT_EQ(NameIn(Linked(0, "prog.debug", "one build")), "same");
  EXPECT_EQ(NameIn(Linked(CrcOf(files_.files_["/opt/app/prog.debug"]), "prog.debug", "another")),
            "");
}

TEST_F(DebugFileTest, FetchesWhatNothingHereHas) {
  const std::string id = absl::BytesToHexString("one build");
  files_.far_[id] = WithSymbol("far", "one build");
  const std::string linked = Linked(0, "prog.debug", "one build");
  EXPECT_EQ(NameIn(linked), "far");
  EXPECT_EQ(files_.fetched_, std::vector<std::string>{id});
  // What is here comes first.
  files_.fetched_.clear();
  files_.files_["/opt/app/prog.debug"] = WithSymbol("linked", "one build");
  EXPECT_EQ(NameIn(linked), "linked");
  files_.files_.clear();
  EXPECT_EQ(NameIn(WithSymbol("own", "one build")), "own");
  ElfImage mini = Stripped();
  mini.Add({.name = ".gnu_debugdata", .content = Xz(WithSymbol("mini"))});
  mini.Add({.name = ".note.gnu.build-id", .type = SHT_NOTE, .content = BuildIdNote("one build")});
  EXPECT_EQ(NameIn(mini.Build()), "mini");
  // Without a build ID there is nothing to ask by.
  EXPECT_EQ(NameIn(Linked(0)), "");
  EXPECT_EQ(files_.fetched_, std::vector<std::string>{});
  // Another binary's.
  files_.far_[id] = WithSymbol("other", "another");
  EXPECT_EQ(NameIn(linked), "");
}

TEST_F(DebugFileTest, SaysWhatWasTriedFarAway) {
  const auto problem_of = [&](const std::string& binary) {
    files_.files_["/opt/app/prog"] = binary;
    return BinaryCache(&files_).Get(1, {.path = "/opt/app/prog"})->symbols_problem();
  };
  EXPECT_EQ(problem_of(Linked(0, "prog.debug", "one build")),
            "stripped, and no debug file is installed; the server had none");
  EXPECT_EQ(problem_of(Linked(0)), "stripped, and no debug file is installed");
}

TEST_F(DebugFileTest, FetchesDwarfWhereOnlyNamesAreHere) {
  ElfImage far = Stripped();
  far.Add({.name = ".note.gnu.build-id", .type = SHT_NOTE, .content = BuildIdNote("one build")});
  far.Add({.name = ".debug_info", .content = "any"});
  files_.far_[absl::BytesToHexString("one build")] = far.Build();
  files_.files_["/opt/app/prog"] = WithSymbol("own", "one build");
  BinaryCache cache(&files_);
  const auto binary = cache.Get(1, {.path = "/opt/app/prog"});
  EXPECT_TRUE(binary->FindSymbol(kText).has_value());
  EXPECT_EQ(files_.fetched_.size(), 0u);
  const std::optional<ElfFile> dwarf = binary->DebugInfoFile();
  ASSERT_TRUE(dwarf.has_value());
  EXPECT_NE(dwarf->FindSection(".debug_info"), nullptr);
  EXPECT_EQ(files_.fetched_.size(), 1u);
  // A debug file that has names only.
  files_.files_["/opt/app/prog.debug"] = WithSymbol("linked", "one build");
  files_.files_["/opt/app/stripped"] = Linked(0, "prog.debug", "one build");
  const auto stripped = cache.Get(1, {.path = "/opt/app/stripped"});
  EXPECT_TRUE(stripped->FindSymbol(kText).has_value());
  EXPECT_EQ(files_.fetched_.size(), 1u);
  EXPECT_NE(stripped->DebugInfoFile()->FindSection(".debug_info"), nullptr);
  files_.far_.clear();
  EXPECT_NE(stripped->DebugInfoFile()->FindSection(".symtab"), nullptr) << "it is all there is";
}

TEST_F(DebugFileTest, DoesNotFollowALinkOutOfItsFolders) {
  for (const char* name : {"../../etc/shadow", "/etc/shadow", "..", ""}) {
    EXPECT_FALSE(ReadDebugLink(*ElfFile::Parse(BytesOf(Linked(1, name)))).has_value()) << name;
  }
  ElfImage cut = Stripped();
  cut.Add({.name = ".gnu_debuglink", .content = "prog.debug"});
  EXPECT_FALSE(ReadDebugLink(*ElfFile::Parse(BytesOf(cut.Build()))).has_value());
  ElfImage empty = Stripped();
  empty.Add({.name = ".gnu_debuglink", .content = ""});
  EXPECT_FALSE(ReadDebugLink(*ElfFile::Parse(BytesOf(empty.Build()))).has_value());
  // Its own name, as cp and a forgotten objcopy leave it.
  files_.asked_.clear();
  EXPECT_EQ(NameIn(Linked(7, "prog")), "");
  EXPECT_EQ(std::count(files_.asked_.begin(), files_.asked_.end(), "/opt/app/prog"), 1);
}

TEST_F(DebugFileTest, ReadsMiniDebugInfo) {
  ElfImage image = Stripped();
  image.Add({.name = ".gnu_debugdata", .content = Xz(WithSymbol("mini"))});
  EXPECT_EQ(NameIn(image.Build()), "mini");

  ElfImage damaged = Stripped();
  damaged.Add({.name = ".gnu_debugdata", .content = Xz(WithSymbol("mini")).substr(0, 60)});
  EXPECT_EQ(NameIn(damaged.Build()), "");

  // A bomb: 65 MiB of zeros in a few KiB.
  ElfImage bomb = Stripped();
  bomb.Add({.name = ".gnu_debugdata",
            .content = Xz(std::string(kMaxMiniDebugInfoBytes + (1 << 20), '\0'))});
  EXPECT_EQ(ReadMiniDebugInfo(*ElfFile::Parse(BytesOf(bomb.Build()))).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_F(DebugFileTest, WhatObjcopyAndXzMakeOfThisProgramIsRead) {
  const std::string folder = absl::StrCat(testing::TempDir(), "/mini", getpid());
  const absl::Cleanup remove = [&folder] { std::filesystem::remove_all(folder); };
  const std::string command = absl::StrCat(
      "mkdir -p ", folder, " && cd ", folder, " && objcopy --only-keep-debug /proc/", getpid(),
      "/exe full 2>/dev/null"
      " && strip --strip-all -o prog /proc/",
      getpid(),
      "/exe"
      " && objcopy -S --remove-section .gdb_index --remove-section .comment"
      " --keep-symbol=main full mini 2>/dev/null && xz -f mini"
      " && objcopy --add-section .gnu_debugdata=mini.xz prog prog.mini"
      " && objcopy --add-gnu-debuglink=full prog prog.linked");
  if (std::system(command.c_str()) != 0) {
    GTEST_SKIP() << "needs objcopy, strip (binutils) and xz (xz-utils)";
  }
  const auto read = [&](const std::string& name) {
    const auto bytes = MemoryBytes::OfFile(absl::StrCat(folder, "/", name));
    std::string text(bytes->size(), '\0');
    EXPECT_TRUE(bytes->ReadAt(0, std::as_writable_bytes(std::span(text))).ok());
    return text;
  };
  const auto has_main = [&](const std::string& name) {
    files_.files_["/opt/app/prog"] = read(name);
    const auto elf = ElfFile::Parse(BytesOf(files_.files_["/opt/app/prog"]));
    std::optional<ElfFile> debug = FindDebugFile(*elf, "/opt/app/prog", files_, 1);
    if (!debug.has_value()) {
      auto mini = ReadMiniDebugInfo(*elf);
      if (mini.ok()) debug = *std::move(mini);
    }
    return SymbolTable::Build(*elf, debug.has_value() ? &*debug : nullptr)
        ->AddressOf("main")
        .has_value();
  };
  EXPECT_FALSE(has_main("prog"));
  EXPECT_TRUE(has_main("prog.mini"));
  files_.files_["/opt/app/.debug/full"] = read("full");
  EXPECT_TRUE(has_main("prog.linked"));
}

}  // namespace
}  // namespace lbrd::unwind

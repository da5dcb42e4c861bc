#include "unwind/symbol_table.h"

#include <dlfcn.h>
#include <elf.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/auxv.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "tests/unit/unwind/elf_image.h"
#include "tests/unit/unwind/memory_bytes.h"

// Two overlapping symbols of known sizes, one of them without a type, as in hand-written assembly.
extern "C" void lbrd_test_outer();
extern "C" void lbrd_test_untyped();
#ifdef __x86_64__
asm(R"(
  .text
  .globl lbrd_test_outer
  .type lbrd_test_outer, @function
lbrd_test_outer:
  ret
  .fill 31, 1, 0x90
  .size lbrd_test_outer, 32
  .globl lbrd_test_untyped
lbrd_test_untyped:
  ret
  .fill 15, 1, 0x90
)");
#endif

namespace lbrd::unwind {
namespace {

constexpr uint64_t kText = 0x1000;
constexpr uint64_t kTextSize = 0x1000;

using NamedSymbol = std::pair<std::string, Elf64_Sym>;

NamedSymbol Function(std::string name, uint64_t start, uint64_t size, int bind = STB_GLOBAL,
                     int type = STT_FUNC, uint16_t section = 1) {
  Elf64_Sym symbol = {};
  symbol.st_info = static_cast<unsigned char>(ELF64_ST_INFO(bind, type));
  symbol.st_shndx = section;
  symbol.st_value = start;
  symbol.st_size = size;
  return {std::move(name), symbol};
}

ElfImage ImageWithText() {
  ElfImage image;
  image.Add({.name = ".text",
             .flags = SHF_ALLOC | SHF_EXECINSTR,
             .address = kText,
             .content = std::string(kTextSize, '\x90')});
  return image;
}

ElfFile Parse(ElfImage& image) {
  absl::StatusOr<ElfFile> file = ElfFile::Parse(BytesOf(image.Build()));
  EXPECT_TRUE(file.ok()) << file.status();
  return *std::move(file);
}

SymbolTable TableOf(const std::vector<NamedSymbol>& symbols) {
  ElfImage image = ImageWithText();
  image.AddSymbols(".symtab", SHT_SYMTAB, symbols);
  absl::StatusOr<SymbolTable> table = SymbolTable::Build(Parse(image), nullptr);
  EXPECT_TRUE(table.ok()) << table.status();
  return *std::move(table);
}

std::string NameAt(const SymbolTable& table, uint64_t address) {
  const std::optional<Symbol> symbol = table.Find(address);
  return symbol.has_value() ? std::string(symbol->name) : "-";
}

TEST(SymbolTableTest, FindsTheFunctionThatHoldsAnAddress) {
  const SymbolTable table =
      TableOf({Function("second", 0x1100, 0x20), Function("first", 0x1000, 0x80)});
  EXPECT_EQ(table.size(), 2u);
  EXPECT_EQ(NameAt(table, 0xfff), "-");
  EXPECT_EQ(NameAt(table, 0x1000), "first");
  EXPECT_EQ(NameAt(table, 0x107f), "first");
  EXPECT_EQ(NameAt(table, 0x1080), "-") << "a gap is nobody's";
  EXPECT_EQ(NameAt(table, 0x10ff), "-");
  EXPECT_EQ(NameAt(table, 0x1100), "second");
  EXPECT_EQ(NameAt(table, 0x111f), "second");
  EXPECT_EQ(NameAt(table, 0x1120), "-");
  EXPECT_EQ(table.AddressOf("second"), 0x1100u);
  EXPECT_EQ(table.AddressOf("third"), std::nullopt);
  const std::optional<Symbol> symbol = table.Find(0x1010);
  ASSERT_TRUE(symbol.has_value());
  EXPECT_EQ(symbol->start, 0x1000u);
  EXPECT_EQ(symbol->size, 0x80u);
}

TEST(SymbolTableTest, SymbolsWithoutSizeReachToTheNextOrTheEndOfTheSection) {
  ElfImage image = ImageWithText();
  const uint32_t fini = image.Add({.name = ".fini",
                                   .flags = SHF_ALLOC | SHF_EXECINSTR,
                                   .address = 0x2000,
                                   .content = std::string(0x10, '\x90')});
  image.AddSymbols(".symtab", SHT_SYMTAB,
                   {Function("a", 0x1000, 0), Function("b", 0x1800, 0),
                    Function("fini", 0x2004, 0, STB_GLOBAL, STT_FUNC, fini)});
  const absl::StatusOr<SymbolTable> table = SymbolTable::Build(Parse(image), nullptr);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(NameAt(*table, 0x17ff), "a");
  EXPECT_EQ(NameAt(*table, 0x1800), "b");
  EXPECT_EQ(NameAt(*table, 0x1fff), "b");
  EXPECT_EQ(NameAt(*table, 0x2000), "-") << "not across the end of a section";
  EXPECT_EQ(NameAt(*table, 0x200f), "fini");
  EXPECT_EQ(NameAt(*table, 0x2010), "-");
}

TEST(SymbolTableTest, OverlappingFunctionsGiveTheInnermost) {
  const SymbolTable table =
      TableOf({Function("outer", 0x1000, 0x100), Function("inner", 0x1010, 0x10),
               Function("innermost", 0x1014, 4), Function("label", 0x1040, 0),
               Function("straddles", 0x10f0, 0x20)});
  EXPECT_EQ(NameAt(table, 0x100f), "outer");
  EXPECT_EQ(NameAt(table, 0x1010), "inner");
  EXPECT_EQ(NameAt(table, 0x1014), "innermost");
  EXPECT_EQ(NameAt(table, 0x1018), "inner");
  EXPECT_EQ(NameAt(table, 0x1020), "outer");
  EXPECT_EQ(NameAt(table, 0x1040), "label");
  EXPECT_EQ(NameAt(table, 0x10ef), "label");
  EXPECT_EQ(NameAt(table, 0x10f0), "straddles");
  EXPECT_EQ(NameAt(table, 0x110f), "straddles");
  EXPECT_EQ(NameAt(table, 0x1110), "-");
}

TEST(SymbolTableTest, ALabelWithoutSizeEndsWithTheFunctionAroundIt) {
  const SymbolTable table = TableOf(
      {Function("outer", 0x1000, 0x100), Function("label", 0x1040, 0), Function("far", 0x1800, 8)});
  EXPECT_EQ(NameAt(table, 0x10ff), "label");
  EXPECT_EQ(NameAt(table, 0x1100), "-");
}

TEST(SymbolTableTest, TheBestNameOfAnAddressWins) {
  const SymbolTable table = TableOf({
      Function("local", 0x1000, 8, STB_LOCAL),
      Function("weak_name", 0x1000, 8, STB_WEAK),
      Function("_global_with_a_long_name", 0x1000, 8),
      Function("__libc_read", 0x1010, 8, STB_WEAK),
      Function("read", 0x1010, 8, STB_WEAK),
      Function("_read", 0x1010, 8, STB_WEAK),
      Function("longer", 0x1020, 8),
      Function("short", 0x1020, 8),
      Function("label", 0x1030, 0, STB_GLOBAL, STT_NOTYPE),
      Function("static_function", 0x1030, 8, STB_LOCAL),
      Function("bbb", 0x1040, 8),
      Function("aaa", 0x1040, 0),
  });
  EXPECT_EQ(table.size(), 5u);
  EXPECT_EQ(NameAt(table, 0x1000), "_global_with_a_long_name");
  EXPECT_EQ(NameAt(table, 0x1010), "read");
  EXPECT_EQ(NameAt(table, 0x1020), "short");
  EXPECT_EQ(NameAt(table, 0x1030), "static_function");
  EXPECT_EQ(NameAt(table, 0x1047), "aaa");
  EXPECT_EQ(NameAt(table, 0x1048), "-") << "the size is that of the other name";
}

TEST(SymbolTableTest, OnlyNamesOfCodeAreKept) {
  ElfImage image = ImageWithText();
  const uint32_t data = image.Add({.name = ".data",
                                   .flags = SHF_ALLOC | SHF_WRITE,
                                   .address = 0x8000,
                                   .content = std::string(64, '\0')});
  image.AddSymbols(".symtab", SHT_SYMTAB,
                   {Function("ifunc", 0x1000, 8, STB_GLOBAL, STT_GNU_IFUNC),
                    Function("_start", 0x1010, 0, STB_GLOBAL, STT_NOTYPE),
                    Function("sized_label", 0x1020, 8, STB_LOCAL, STT_NOTYPE),
                    Function("jump_label", 0x1030, 0, STB_LOCAL, STT_NOTYPE),
                    Function("$x", 0x1040, 0, STB_GLOBAL, STT_NOTYPE),
                    Function(".Lpart", 0x1050, 4, STB_LOCAL, STT_NOTYPE),
                    Function("file.c", 0x1060, 0, STB_LOCAL, STT_FILE, SHN_ABS),
                    Function("section", 0x1070, 0, STB_LOCAL, STT_SECTION),
                    Function("object", 0x1080, 8, STB_GLOBAL, STT_OBJECT),
                    Function("in_data", 0x8000, 8, STB_GLOBAL, STT_FUNC, data),
                    Function("undefined", 0x1090, 8, STB_GLOBAL, STT_FUNC, SHN_UNDEF),
                    Function("absolute", 0x10a0, 8, STB_GLOBAL, STT_FUNC, SHN_ABS),
                    Function("etext", kText + kTextSize, 0, STB_GLOBAL, STT_NOTYPE),
                    Function("", 0x10b0, 8), Function("null", 0, 8)});
  const absl::StatusOr<SymbolTable> table = SymbolTable::Build(Parse(image), nullptr);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->size(), 3u);
  EXPECT_EQ(NameAt(*table, 0x1000), "ifunc");
  EXPECT_EQ(NameAt(*table, 0x1010), "_start");
  EXPECT_EQ(NameAt(*table, 0x1020), "sized_label");
}

TEST(SymbolTableTest, VersionsAreCutOff) {
  const SymbolTable table =
      TableOf({Function("memcpy@@GLIBC_2.14", 0x1000, 8), Function("memcpy@GLIBC_2.2.5", 0x1010, 8),
               Function("@odd", 0x1020, 8), Function("?f@@YAXXZ", 0x1030, 8)});
  EXPECT_EQ(NameAt(table, 0x1000), "memcpy");
  EXPECT_EQ(NameAt(table, 0x1010), "memcpy");
  EXPECT_EQ(NameAt(table, 0x1020), "@odd");
  EXPECT_EQ(NameAt(table, 0x1030), "?f@@YAXXZ");
}

TEST(SymbolTableTest, SizesAreHeldWithinTheSection) {
  const SymbolTable table = TableOf({Function("huge", 0x1800, UINT64_MAX)});
  EXPECT_EQ(NameAt(table, 0x1fff), "huge");
  EXPECT_EQ(NameAt(table, 0x2000), "-");
}

TEST(SymbolTableTest, JoinsDynamicSymbolsAndThoseOfTheDebugFile) {
  ElfImage image = ImageWithText();
  image.AddSymbols(".dynsym", SHT_DYNSYM, {Function("exported", 0x1000, 8)});
  ElfImage debug;
  debug.Add({.name = ".text",
             .type = SHT_NOBITS,
             .flags = SHF_ALLOC | SHF_EXECINSTR,
             .address = kText,
             .nobits_size = kTextSize});
  debug.Add({.name = ".dynsym", .type = SHT_NOBITS, .nobits_size = 0x1000});
  debug.AddSymbols(".symtab", SHT_SYMTAB,
                   {Function("exported", 0x1000, 8), Function("internal", 0x1100, 8, STB_LOCAL)});
  const ElfFile binary = Parse(image);
  const ElfFile debug_file = Parse(debug);
  const absl::StatusOr<SymbolTable> table = SymbolTable::Build(binary, &debug_file);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->size(), 2u);
  EXPECT_EQ(NameAt(*table, 0x1000), "exported");
  EXPECT_EQ(NameAt(*table, 0x1100), "internal");
}

TEST(SymbolTableTest, NoSymbolsIsAnEmptyTableBrokenOnesAreAnError) {
  ElfImage image = ImageWithText();
  absl::StatusOr<SymbolTable> table = SymbolTable::Build(Parse(image), nullptr);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->size(), 0u);
  EXPECT_EQ(table->Find(kText), std::nullopt);

  ElfImage broken = ImageWithText();
  const uint32_t symtab = broken.AddSymbols(".symtab", SHT_SYMTAB, {Function("f", kText, 8)});
  broken.section(symtab).link = 1000;
  EXPECT_FALSE(SymbolTable::Build(Parse(broken), nullptr).ok());
  ElfImage half_broken = ImageWithText();
  half_broken.section(half_broken.AddSymbols(".symtab", SHT_SYMTAB, {Function("f", kText, 8)}))
      .link = 1000;
  half_broken.AddSymbols(".dynsym", SHT_DYNSYM, {Function("g", kText, 8)});
  table = SymbolTable::Build(Parse(half_broken), nullptr);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(NameAt(*table, kText), "g");
}

// 20,000 symbols all named by tails of one string of 1 MB would make 10 GB of names.
TEST(SymbolTableTest, OverlappingNamesDoNotMultiplyMemory) {
  ElfImage image = ImageWithText();
  std::vector<NamedSymbol> symbols;
  for (uint64_t i = 0; i < 20000; ++i) symbols.push_back(Function("", kText + i % kTextSize, 1));
  const uint32_t symtab = image.AddSymbols(".symtab", SHT_SYMTAB, symbols);
  std::string& table_bytes = image.section(symtab).content;
  for (uint32_t i = 0; i < 20000; ++i) {
    std::memcpy(&table_bytes[(i + 1) * sizeof(Elf64_Sym)], &i, sizeof i);
  }
  image.section(image.section(symtab).link).content = std::string(1 << 20, 'n') + '\0';
  const absl::StatusOr<SymbolTable> table = SymbolTable::Build(Parse(image), nullptr);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_GT(table->size(), 0u);
  EXPECT_LT(table->bytes(), 8u << 20);
}

// What a linker makes: .plt with a header entry, .plt.sec with endbr64 and bnd, .plt.got.
class PltTest : public testing::Test {
 protected:
  static std::string Jump(absl::string_view prefix, uint64_t address, uint64_t slot, size_t size) {
    std::string code(prefix.data(), prefix.size());
    code += "\xff\x25";
    const auto displacement = static_cast<int32_t>(slot - (address + code.size() + 4));
    code.append(reinterpret_cast<const char*>(&displacement), sizeof displacement);
    code.resize(size, '\x90');
    return code;
  }

  static std::string Relocations(const std::vector<Elf64_Rela>& relocations) {
    return std::string(reinterpret_cast<const char*>(relocations.data()),
                       relocations.size() * sizeof(Elf64_Rela));
  }

  static ElfImage Image() {
    ElfImage image = ImageWithText();
    const auto code = [&](const char* name, uint64_t address, std::string bytes, uint64_t size) {
      image.Add({.name = name,
                 .flags = SHF_ALLOC | SHF_EXECINSTR,
                 .address = address,
                 .content = std::move(bytes),
                 .entry_size = size});
    };
    const std::string header(16, '\x90');
    code(".plt", 0x3000,
         header + Jump("", 0x3010, 0x5000, 16) + Jump("", 0x3020, 0x5008, 16) +
             Jump("", 0x3030, 0x5ff8, 16),
         16);
    code(".plt.sec", 0x3100, Jump("\xf3\x0f\x1e\xfa\xf2", 0x3100, 0x5010, 16), 16);
    code(".plt.got", 0x3200, Jump("", 0x3200, 0x5018, 8) + Jump("", 0x3208, 0x5020, 8), 0);
    const uint32_t dynsym =
        image.AddSymbols(".dynsym", SHT_DYNSYM,
                         {Function("puts", 0, 0, STB_GLOBAL, STT_FUNC, SHN_UNDEF),
                          Function("exit", 0, 0, STB_GLOBAL, STT_FUNC, SHN_UNDEF),
                          Function("__cxa_finalize", 0, 0, STB_WEAK, STT_FUNC, SHN_UNDEF),
                          Function("memcpy", 0x1500, 8, STB_GLOBAL, STT_GNU_IFUNC)});
    image.Add({.name = ".rela.plt",
               .type = SHT_RELA,
               .content = Relocations({{0x5000, ELF64_R_INFO(2, R_X86_64_JUMP_SLOT), 0},
                                       {0x5008, ELF64_R_INFO(1, R_X86_64_JUMP_SLOT), 0},
                                       {0x5010, ELF64_R_INFO(2, R_X86_64_JUMP_SLOT), 0},
                                       {0x5020, R_X86_64_IRELATIVE, 0x1500}}),
               .link = dynsym});
    image.Add({.name = ".rela.dyn",
               .type = SHT_RELA,
               .content = Relocations({{0x5018, ELF64_R_INFO(3, R_X86_64_GLOB_DAT), 0},
                                       {0x5ff8, ELF64_R_INFO(900, R_X86_64_GLOB_DAT), 0}}),
               .link = dynsym});
    return image;
  }
};

TEST_F(PltTest, EntriesAreNamedByTheSlotTheyJumpThrough) {
  ElfImage image = Image();
  const absl::StatusOr<SymbolTable> table = SymbolTable::Build(Parse(image), nullptr);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(NameAt(*table, 0x3000), "-") << "the header is no function";
  EXPECT_EQ(NameAt(*table, 0x3010), "exit@plt");
  EXPECT_EQ(NameAt(*table, 0x301f), "exit@plt");
  EXPECT_EQ(NameAt(*table, 0x3020), "puts@plt");
  EXPECT_EQ(NameAt(*table, 0x3030), "-") << "its relocation names no symbol";
  EXPECT_EQ(NameAt(*table, 0x3100), "exit@plt");
  EXPECT_EQ(NameAt(*table, 0x3200), "__cxa_finalize@plt");
  EXPECT_EQ(NameAt(*table, 0x3207), "__cxa_finalize@plt");
  EXPECT_EQ(table->Find(0x3200)->size, 8u);
  EXPECT_EQ(NameAt(*table, 0x3208), "memcpy@plt");
  EXPECT_EQ(NameAt(*table, 0x3210), "-");
  EXPECT_EQ(NameAt(*table, 0x1500), "memcpy");
}

TEST_F(PltTest, OtherMachinesHaveNone) {
  ElfImage image = Image();
  image.header().e_machine = EM_AARCH64;
  const absl::StatusOr<SymbolTable> table = SymbolTable::Build(Parse(image), nullptr);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(NameAt(*table, 0x3010), "-");
  EXPECT_EQ(table->size(), 1u);
}

struct Loaded {
  std::string path;
  uint64_t bias = 0;
};

Loaded FindLoaded(absl::string_view part_of_path) {
  struct Search {
    absl::string_view wanted;
    Loaded found;
  } search = {part_of_path, {}};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* opaque) {
        auto* s = static_cast<Search*>(opaque);
        if (absl::StrContains(info->dlpi_name, s->wanted)) {
          s->found = {info->dlpi_name, info->dlpi_addr};
          return 1;
        }
        return 0;
      },
      &search);
  return search.found;
}

SymbolTable TableOfFile(const std::string& path) {
  const std::shared_ptr<MemoryBytes> bytes = MemoryBytes::OfFile(path);
  EXPECT_NE(bytes, nullptr) << path;
  absl::StatusOr<ElfFile> file = ElfFile::Parse(bytes);
  EXPECT_TRUE(file.ok()) << file.status();
  absl::StatusOr<SymbolTable> table = SymbolTable::Build(*file, nullptr);
  EXPECT_TRUE(table.ok()) << table.status();
  return *std::move(table);
}

// Every function that a library exports is found by its first and its last address.
void ExpectDynamicSymbolsFound(absl::string_view library) {
  const Loaded loaded = FindLoaded(library);
  if (loaded.path.empty()) GTEST_SKIP() << library << " is not loaded";
  const std::shared_ptr<MemoryBytes> bytes = MemoryBytes::OfFile(loaded.path);
  ASSERT_NE(bytes, nullptr);
  const absl::StatusOr<ElfFile> file = ElfFile::Parse(bytes);
  ASSERT_TRUE(file.ok()) << file.status();
  const absl::StatusOr<SymbolTable> table = SymbolTable::Build(*file, nullptr);
  ASSERT_TRUE(table.ok()) << table.status();
  const absl::StatusOr<std::vector<std::byte>> symbols = file->Read(*file->FindSection(".dynsym"));
  ASSERT_TRUE(symbols.ok()) << symbols.status();
  size_t functions = 0;
  for (size_t at = 0; at + sizeof(Elf64_Sym) <= symbols->size(); at += sizeof(Elf64_Sym)) {
    Elf64_Sym symbol;
    std::memcpy(&symbol, symbols->data() + at, sizeof symbol);
    const int type = ELF64_ST_TYPE(symbol.st_info);
    if ((type != STT_FUNC && type != STT_GNU_IFUNC) || symbol.st_shndx == SHN_UNDEF) continue;
    ++functions;
    const std::optional<Symbol> found = table->Find(symbol.st_value);
    ASSERT_TRUE(found.has_value()) << std::hex << symbol.st_value;
    EXPECT_EQ(found->start, symbol.st_value);
    if (symbol.st_size == 0) continue;
    const std::optional<Symbol> last = table->Find(symbol.st_value + symbol.st_size - 1);
    ASSERT_TRUE(last.has_value()) << std::hex << symbol.st_value;
    EXPECT_GE(last->start, symbol.st_value);
  }
  EXPECT_GT(functions, 1000u);
}

TEST(SymbolTableTest, EveryFunctionOfLibcIsFound) { ExpectDynamicSymbolsFound("libc.so.6"); }
TEST(SymbolTableTest, EveryFunctionOfLibstdcxxIsFound) { ExpectDynamicSymbolsFound("libstdc++"); }

TEST(SymbolTableTest, AgreesWithTheDynamicLinker) {
  const Loaded libc = FindLoaded("libc.so.6");
  if (libc.path.empty()) GTEST_SKIP() << "linked without a shared libc";
  const SymbolTable table = TableOfFile(libc.path);
  for (const char* name : {"qsort", "getenv", "pthread_create", "printf", "fopen"}) {
    const auto address = reinterpret_cast<uint64_t>(dlsym(RTLD_DEFAULT, name));
    // A sanitizer may stand in for it.
    Dl_info info = {};
    if (dladdr(reinterpret_cast<void*>(address), &info) == 0 ||
        !absl::StrContains(info.dli_fname, "libc.so.6")) {
      continue;
    }
    const std::optional<Symbol> found = table.Find(address - libc.bias);
    ASSERT_TRUE(found.has_value()) << name;
    EXPECT_EQ(found->start + libc.bias, address) << name;
    EXPECT_EQ(table.AddressOf(found->name), found->start);
  }
}

TEST(SymbolTableTest, ReadsThisProgram) {
  const SymbolTable table = TableOfFile("/proc/self/exe");
  const uint64_t bias = FindLoaded("").bias;
  const auto name_of = [&](auto* function, uint64_t offset) {
    return NameAt(table, reinterpret_cast<uint64_t>(function) - bias + offset);
  };
  EXPECT_TRUE(absl::StrContains(name_of(&TableOfFile, 0), "TableOfFile"));
  EXPECT_TRUE(absl::StrContains(name_of(&TableOfFile, 4), "TableOfFile"));
#ifdef __x86_64__
  EXPECT_EQ(name_of(&lbrd_test_outer, 0), "lbrd_test_outer");
  EXPECT_EQ(name_of(&lbrd_test_outer, 31), "lbrd_test_outer");
  EXPECT_EQ(name_of(&lbrd_test_outer, 32), "lbrd_test_untyped");
  EXPECT_EQ(name_of(&lbrd_test_untyped, 0), "lbrd_test_untyped");
#endif
  EXPECT_NE(table.AddressOf("_start"), std::nullopt);
  EXPECT_NE(table.AddressOf("main"), std::nullopt);
}

TEST(SymbolTableTest, ReadsTheVdso) {
  const auto* vdso = reinterpret_cast<const char*>(getauxval(AT_SYSINFO_EHDR));
  if (vdso == nullptr) GTEST_SKIP() << "the kernel gave this process no vdso";
  Elf64_Ehdr header;
  std::memcpy(&header, vdso, sizeof header);
  const absl::StatusOr<ElfFile> file =
      ElfFile::Parse(BytesOf({vdso, header.e_shoff + header.e_shnum * sizeof(Elf64_Shdr)}));
  ASSERT_TRUE(file.ok()) << file.status();
  const absl::StatusOr<SymbolTable> table = SymbolTable::Build(*file, nullptr);
  ASSERT_TRUE(table.ok()) << table.status();
#ifdef __x86_64__
  const std::optional<uint64_t> address = table->AddressOf("__vdso_clock_gettime");
  ASSERT_TRUE(address.has_value());
  EXPECT_EQ(NameAt(*table, *address + 1), "__vdso_clock_gettime");
#endif
}

}  // namespace
}  // namespace lbrd::unwind

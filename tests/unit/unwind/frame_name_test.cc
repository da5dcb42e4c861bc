#include "unwind/frame_name.h"

#include "gtest/gtest.h"
#include "tests/unit/unwind/live_process.h"
#include "tests/unit/unwind/tiny_elf.h"

namespace lbrd::unwind {

// Named by the symbol table of this test program.
[[gnu::noinline, gnu::used]] int NamedFrame(int depth) {
  asm volatile("" : "+r"(depth));
  return depth;
}

namespace {

ResolvedFrame Exact(uint64_t ip) { return {.ip = ip, .source = FrameSource::kLbr}; }
ResolvedFrame Return(uint64_t ip) {
  return {.ip = ip, .source = FrameSource::kDwarf, .return_address = true};
}

class FrameNameTest : public testing::Test {
 protected:
  // A file without symbols, mapped from its offset 0x200.
  static Mapping Stripped() {
    return {.start = 0x7000000,
            .end = 0x7000e00,
            .file_offset = 0x200,
            .binary = std::make_shared<Binary>(FileIdentity{.path = "/a"},
                                               ElfFile::Parse(TinyElf(1)).value(), Files(), 1)};
  }
  static LiveFiles* Files() {
    static LiveFiles files;
    return &files;
  }

  BinaryCache binaries_{Files()};
  AddressSpace space_ = LiveSpace(&binaries_);
};

TEST_F(FrameNameTest, NamesAndCountsFromTheSymbolsStart) {
  const auto start = reinterpret_cast<uint64_t>(&NamedFrame);
  const Mapping* mapping = space_.Find(start);
  ASSERT_NE(mapping, nullptr);
  const FrameName at_start = NameUserFrame(mapping, Exact(start));
  EXPECT_EQ(at_start.symbol, "lbrd::unwind::NamedFrame");
  EXPECT_EQ(at_start.offset, 0u);
  const FrameName within = NameUserFrame(mapping, Exact(start + 2));
  EXPECT_EQ(within.symbol, "lbrd::unwind::NamedFrame");
  EXPECT_EQ(within.offset, 2u);
}

TEST_F(FrameNameTest, AReturnAddressBelongsToTheCallBeforeIt) {
  const auto start = reinterpret_cast<uint64_t>(&NamedFrame);
  const Mapping* mapping = space_.Find(start);
  ASSERT_NE(mapping, nullptr);
  const FrameName first = NameUserFrame(mapping, Return(start + 1));
  EXPECT_EQ(first.symbol, "lbrd::unwind::NamedFrame");
  EXPECT_EQ(first.offset, 1u);
  // One that stands right behind its function, whose last call never returns.
  const std::optional<Symbol> symbol =
      mapping->binary->FindSymbol(mapping->FileAddress(start).value());
  ASSERT_TRUE(symbol.has_value());
  ASSERT_GT(symbol->size, 0u);
  const FrameName behind = NameUserFrame(mapping, Return(start + symbol->size));
  EXPECT_EQ(behind.symbol, "lbrd::unwind::NamedFrame");
  EXPECT_EQ(behind.offset, symbol->size);
  EXPECT_NE(NameUserFrame(mapping, Exact(start + symbol->size)).symbol, "lbrd::unwind::NamedFrame");
  EXPECT_NE(NameUserFrame(mapping, Return(start)).symbol, "lbrd::unwind::NamedFrame");
}

TEST_F(FrameNameTest, WithoutASymbolItIsTheAddressInTheFile) {
  const Mapping mapping = Stripped();
  const FrameName exact = NameUserFrame(&mapping, Exact(0x7000010));
  EXPECT_EQ(exact.symbol, "");
  EXPECT_EQ(exact.offset, kTinyAddress + 0x210);
  EXPECT_EQ(NameUserFrame(&mapping, Return(0x7000010)).offset, kTinyAddress + 0x210);
}

TEST_F(FrameNameTest, WithoutAFileItIsTheOffsetInIt) {
  Mapping mapping = Stripped();
  mapping.binary = std::make_shared<Binary>(FileIdentity{.path = "/a"}, "gone");
  const FrameName name = NameUserFrame(&mapping, Return(0x7000010));
  EXPECT_EQ(name.symbol, "");
  EXPECT_EQ(name.offset, 0x210u);
}

TEST_F(FrameNameTest, WithoutAMappingItIsTheAddress) {
  const FrameName name = NameUserFrame(nullptr, Return(0x7000010));
  EXPECT_EQ(name.symbol, "");
  EXPECT_EQ(name.offset, 0x7000010u);
}

TEST_F(FrameNameTest, NamesTheKernelAndItsModules) {
  const auto symbols = KernelSymbols::Parse(
      "ffffffff81000000 T _stext\n"
      "ffffffff81000100 T do_idle\n"
      "ffffffffc0000000 t nf_hook\t[nf_tables]\n");
  ASSERT_TRUE(symbols.ok()) << symbols.status();
  std::string module;
  const FrameName leaf = NameKernelFrame(&*symbols, Exact(0xffffffff81000100), &module);
  EXPECT_EQ(leaf.symbol, "do_idle");
  EXPECT_EQ(leaf.offset, 0u);
  EXPECT_EQ(module, "");
  const FrameName caller = NameKernelFrame(&*symbols, Return(0xffffffff81000100), &module);
  EXPECT_EQ(caller.symbol, "_stext");
  EXPECT_EQ(caller.offset, 0x100u);
  EXPECT_EQ(NameKernelFrame(&*symbols, Exact(0xffffffffc0000008), &module).symbol, "nf_hook");
  EXPECT_EQ(module, "nf_tables");

  const FrameName unknown = NameKernelFrame(nullptr, Exact(0xffffffff81000100), &module);
  EXPECT_EQ(unknown.symbol, "");
  EXPECT_EQ(unknown.offset, 0xffffffff81000100);
}

}  // namespace
}  // namespace lbrd::unwind

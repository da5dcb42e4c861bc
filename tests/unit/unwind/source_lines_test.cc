#include "unwind/source_lines.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include "tests/unit/unwind/elf_image.h"

namespace lbrd::unwind {
namespace {

constexpr char kSelf[] = "/proc/self/exe";

ElfFile Self() { return *ElfFile::Parse(MemoryBytes::OfFile(kSelf)); }

struct Call {
  std::string function;
  std::string place;  // file:line
};

std::string TextOf(const std::vector<Call>& calls) {
  return absl::StrJoin(calls, " < ", [](std::string* out, const Call& call) {
    absl::StrAppend(out, call.function, " ", call.place);
  });
}

std::vector<Call> CallsOf(const std::vector<SourceCall>& calls) {
  std::vector<Call> out;
  for (const SourceCall& call : calls) {
    out.push_back(
        {call.function, absl::StrCat(call.file.substr(call.file.rfind('/') + 1), ":", call.line)});
  }
  return out;
}

// addr2line takes the innermost name from the symbol table, which knows nothing of inlining, and
// says no scopes of names that are not mangled.
bool Agree(const std::vector<Call>& ours, const std::vector<Call>& theirs) {
  if (ours.size() != theirs.size()) return false;
  for (size_t i = 0; i < ours.size(); ++i) {
    if (ours[i].place != theirs[i].place) return false;
    const bool from_dwarf = i > 0 && i + 1 < ours.size();
    if (from_dwarf && ours[i].function != theirs[i].function &&
        !absl::EndsWith(ours[i].function, absl::StrCat("::", theirs[i].function))) {
      return false;
    }
  }
  return true;
}

TEST(SourceLinesTest, SaysWhatAFileLacks) {
  ElfImage image;
  EXPECT_EQ(SourceLines::Open(*ElfFile::Parse(BytesOf(image.Build()))).status().code(),
            absl::StatusCode::kNotFound);
  image.Add({.name = ".debug_info", .content = std::string(100, '\x7f')});
  const auto nonsense = SourceLines::Open(*ElfFile::Parse(BytesOf(image.Build())));
  if (nonsense.ok()) {
    EXPECT_TRUE((*nonsense)->Find(0x1000).empty());
  }
}

// Over many addresses of this program, with all that the compiler inlined into it.
TEST(SourceLinesTest, AgreesWithAddr2line) {
#ifdef __clang__
  GTEST_SKIP() << "clang's debug information names functions that it makes itself, and addr2line "
                  "takes their names from the symbol table";
#endif
  const ElfFile file = Self();
  const ElfSection* text = file.FindSection(".text");
  ASSERT_NE(text, nullptr);
  auto lines = SourceLines::Open(file);
  if (absl::IsNotFound(lines.status())) GTEST_SKIP() << "this build has no debug information";
  ASSERT_TRUE(lines.ok()) << lines.status();

  constexpr int kAddresses = 4000;
  std::vector<uint64_t> addresses;
  for (int i = 0; i < kAddresses; ++i) {
    addresses.push_back(text->address + text->size / kAddresses * static_cast<uint64_t>(i));
  }
  const std::string base = absl::StrCat(testing::TempDir(), "/source_lines", getpid());
  const absl::Cleanup remove = [&base] {
    std::remove((base + ".in").c_str());
    std::remove((base + ".out").c_str());
  };
  std::ofstream list(base + ".in");
  for (const uint64_t address : addresses) list << "0x" << std::hex << address << "\n";
  list.close();
  const std::string command = absl::StrCat("addr2line -a -i -f -e /proc/", getpid(), "/exe < ",
                                           base, ".in > ", base, ".out");
  if (std::system(command.c_str()) != 0) GTEST_SKIP() << "needs addr2line (binutils)";

  // "0xADDRESS", then two lines a call: its function, and file:line, "?" where unknown.
  std::ifstream answer(base + ".out");
  std::string line;
  std::vector<std::vector<Call>> expected;
  while (std::getline(answer, line)) {
    if (line.rfind("0x", 0) == 0) {
      expected.emplace_back();
      continue;
    }
    std::string place;
    ASSERT_TRUE(std::getline(answer, place) && !expected.empty());
    place = place.substr(0, place.find(" (discriminator"));
    place = place.substr(place.rfind('/') + 1);
    if (place.find('?') != std::string::npos) place = ":0";
    expected.back().push_back({line, place});
  }
  ASSERT_EQ(expected.size(), addresses.size());

  int compared = 0;
  int same = 0;
  int inlined = 0;
  for (size_t i = 0; i < addresses.size(); ++i) {
    const std::vector<Call> ours = CallsOf((*lines)->Find(addresses[i]));
    if (ours.empty()) continue;
    ++compared;
    inlined += ours.size() > 1;
    if (Agree(ours, expected[i])) {
      ++same;
    } else if (compared - same <= 10) {
      std::printf("%#lx: ours %s\n  addr2line's %s\n", static_cast<unsigned long>(addresses[i]),
                  TextOf(ours).c_str(), TextOf(expected[i]).c_str());
    }
  }
  std::printf("%d addresses with DWARF, %d with inlined functions; %d the same as addr2line\n",
              compared, inlined, same);
  EXPECT_GT(compared, kAddresses / 4);
  EXPECT_GT(inlined, compared / 10);
  EXPECT_GE(same * 1000, compared * 995);
}

}  // namespace
}  // namespace lbrd::unwind

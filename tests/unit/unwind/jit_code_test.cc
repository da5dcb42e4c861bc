#include "unwind/jit_code.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/unit/unwind/jitdump_image.h"
#include "tests/unit/unwind/memory_bytes.h"

namespace lbrd::unwind {
namespace {

// A file that others go on writing.
class GrowingFile : public ByteSource {
 public:
  uint64_t size() const override { return text_.size(); }
  absl::Status ReadAt(uint64_t offset, std::span<std::byte> out) const override {
    if (offset > text_.size() || out.size() > text_.size() - offset) {
      return absl::OutOfRangeError("beyond the end");
    }
    std::memcpy(out.data(), text_.data() + offset, out.size());
    return absl::OkStatus();
  }
  std::string text_;
};

TEST(PerfMapReaderTest, ReadsLinesInAnyPieces) {
  const std::string text =
      "7f0000001000 40 LazyCompile:*fib /a b.js:1:2\n"
      "0x7f0000002000 0x20 plain\r\n"
      "not a line\n"
      "7f0000003000 0 empty\n"
      "7f0000003000 10\n"
      "ffffffffffffffff 10 wraps\n"
      "10000000000000000 10 too many digits\n"
      "\n"
      "7f0000001000 20 replaced\n"
      "7f0000005000 20 unfinished";
  for (size_t step : {size_t{1}, size_t{7}, text.size()}) {
    CodeBudget budget;
    CodeSymbols symbols(&budget);
    PerfMapReader reader;
    for (size_t at = 0; at < text.size(); at += step) {
      reader.Feed(absl::string_view(text).substr(at, step), &symbols);
    }
    EXPECT_EQ(reader.malformed_lines(), 5u);
    EXPECT_EQ(symbols.size(), 3u);
    EXPECT_EQ(symbols.Find(0x7f0000001010, 0)->name, "replaced");
    EXPECT_EQ(symbols.Find(0x7f0000001030, 0)->name, "LazyCompile:*fib /a b.js:1:2");
    EXPECT_EQ(symbols.Find(0x7f000000201f, 0)->name, "plain");
    EXPECT_FALSE(symbols.Find(0x7f0000005000, 0).has_value());
    reader.Feed("\n", &symbols);
    EXPECT_EQ(symbols.Find(0x7f0000005000, 0)->name, "unfinished");
  }
}

TEST(PerfMapReaderTest, SkipsEndlessLines) {
  CodeBudget budget;
  CodeSymbols symbols(&budget);
  PerfMapReader reader;
  for (int i = 0; i < 100; ++i) reader.Feed(std::string(10'000, 'x'), &symbols);
  reader.Feed("\n1000 10 next\n", &symbols);
  EXPECT_EQ(reader.malformed_lines(), 1u);
  EXPECT_TRUE(symbols.Find(0x1000, 0).has_value());
  reader.Feed(absl::StrCat("2000 10 ", std::string(10'000, 'n'), "\n"), &symbols);
  EXPECT_EQ(symbols.Find(0x2000, 0)->name.size(), PerfMapReader::kMaxNameBytes);
}

class JitDumpTest : public testing::Test {
 protected:
  std::string NameAt(uint64_t address, uint64_t time_ns) const {
    const auto found = symbols_.Find(address, time_ns);
    return found.has_value() ? std::string(found->name) : "";
  }
  void Read(const std::string& bytes) {
    file_.text_ = bytes;
    reader_.Read(file_, &symbols_);
  }
  GrowingFile file_;
  CodeBudget budget_;
  CodeSymbols symbols_{&budget_};
  JitDumpReader reader_;
};

TEST_F(JitDumpTest, FollowsCodeThroughLoadsAndMoves) {
  JitDumpImage image;
  image.Load(100, 0x1000, "a", std::string(32, '\xc3'))
      .Load(200, 0x2000, "b", std::string(32, '\xc3'))
      .Move(300, 0x2000, 0x1000, 32)
      .Record(4, 310, std::string(40, 'u'))  // unwinding information
      .Record(77, 320, "of a later version")
      .Load(400, 0x2000, "c", std::string(16, '\xc3'))
      .Close(500);
  Read(image.bytes());
  EXPECT_EQ(reader_.malformed_records(), 0u);
  EXPECT_EQ(NameAt(0x1000, 99), "");
  EXPECT_EQ(NameAt(0x1000, 299), "a");
  EXPECT_EQ(NameAt(0x1000, 300), "b");
  EXPECT_EQ(NameAt(0x2000, 299), "b");
  EXPECT_EQ(NameAt(0x2000, 300), "");
  EXPECT_EQ(NameAt(0x2000, 400), "c");
}

TEST_F(JitDumpTest, GivesTheSameWhereverReadingStopsMeanwhile) {
  const std::string bytes = JitDumpImage()
                                .Load(100, 0x1000, "a", std::string(32, 'x'))
                                .DebugInfo(150, 0x2000, {{0x2000, 1, "f.js"}})
                                .Load(150, 0x2000, "b", std::string(32, 'x'))
                                .bytes();
  for (size_t size = 0; size <= bytes.size(); ++size) Read(bytes.substr(0, size));
  EXPECT_EQ(reader_.malformed_records(), 0u);
  EXPECT_EQ(symbols_.size(), 2u);
  EXPECT_EQ(NameAt(0x1010, 100), "a");
  EXPECT_EQ(symbols_.Find(0x2010, 150)->file, "f.js");
}

TEST_F(JitDumpTest, ReadsLines) {
  Read(JitDumpImage()
           .DebugInfo(1, 0x1000, {{0x1000, 7, "a.js"}, {0x1008, 8, "\xff"}, {0x1010, 3, "b.js"}})
           .Load(1, 0x1000, "plain", std::string(32, 'x'))
           // As V8 writes them, 64 bytes off.
           .DebugInfo(2, 0x2000, {{0x2040, 5, "a.js"}, {0x2050, 6, "a.js"}})
           .Load(2, 0x2000, "v8", std::string(32, 'x'))
           .Load(3, 0x3000, "none", std::string(32, 'x'))
           .bytes());
  const auto place = [&](uint64_t address) {
    const auto found = symbols_.Find(address, 10);
    return absl::StrCat(found->file, ":", found->line);
  };
  EXPECT_EQ(place(0x1007), "a.js:7");
  EXPECT_EQ(place(0x1009), "a.js:8");
  EXPECT_EQ(place(0x1010), "b.js:3");
  EXPECT_EQ(place(0x2000), "a.js:5");
  EXPECT_EQ(place(0x2010), "a.js:6");
  EXPECT_EQ(place(0x3000), ":0");
}

TEST_F(JitDumpTest, BelievesNoLinesWhereOneIsOutsideTheCode) {
  Read(JitDumpImage()
           .DebugInfo(1, 0x1000, {{0x1000, 7, "a.js"}, {0x9000, 8, "\x97\x03"}})
           .Load(1, 0x1000, "f", std::string(32, 'x'))
           .bytes());
  EXPECT_EQ(NameAt(0x1010, 5), "f");
  EXPECT_EQ(symbols_.Find(0x1010, 5)->line, 0u);
  EXPECT_EQ(reader_.malformed_records(), 1u);
}

TEST_F(JitDumpTest, OfTheCpusOwnTimesNothingIsBelieved) {
  Read(JitDumpImage(1).Load(1'000'000, 0x1000, "a", "code").bytes());
  EXPECT_TRUE(reader_.cpu_time());
  EXPECT_EQ(NameAt(0x1000, 5), "a");
}

TEST_F(JitDumpTest, EndsAtWhatIsNoRecord) {
  std::string bytes = JitDumpImage().Load(1, 0x1000, "a", "code").bytes();
  bytes.append(16, '\0');  // a size of 0
  Read(bytes + JitDumpImage().Load(1, 0x2000, "b", "code").bytes());
  EXPECT_EQ(NameAt(0x1000, 5), "a");
  EXPECT_EQ(NameAt(0x2000, 5), "");
  EXPECT_EQ(reader_.malformed_records(), 1u);
  JitDumpReader other;
  file_.text_ = std::string(100, 'x');
  other.Read(file_, &symbols_);
  EXPECT_EQ(other.malformed_records(), 1u);
}

TEST(IsJitDumpTest, GoesByTheName) {
  EXPECT_TRUE(IsJitDump("/tmp/jit-123.dump"));
  EXPECT_TRUE(IsJitDump("jit-1.dump"));
  for (const char* path : {"/tmp/jit-.dump", "/tmp/jit-12a.dump", "/tmp/xjit-1.dump",
                           "/jit-1.dump/x", "/tmp/jit-1.dump.gz", "", "//anon"}) {
    EXPECT_FALSE(IsJitDump(path)) << path;
  }
}

// The files of processes, by name.
class JitFiles : public FileSource {
 public:
  absl::StatusOr<std::shared_ptr<const ByteSource>> Open(int32_t, const FileIdentity& f) override {
    return Find(f.path);
  }
  absl::StatusOr<std::shared_ptr<const ByteSource>> OpenDebug(int32_t,
                                                              const std::string&) override {
    return absl::NotFoundError("none");
  }
  absl::StatusOr<std::shared_ptr<const ByteSource>> OpenPerfMap(int32_t pid,
                                                                std::string* path) override {
    ++tries_;
    *path = absl::StrCat("/tmp/perf-", pid, ".map");
    return Find(*path);
  }
  absl::StatusOr<std::shared_ptr<const ByteSource>> Find(const std::string& path) {
    const auto found = files_.find(path);
    if (found == files_.end()) return absl::NotFoundError(path);
    return found->second;
  }
  std::map<std::string, std::shared_ptr<GrowingFile>> files_;
  int tries_ = 0;
};

class JitCodeTest : public testing::Test {
 protected:
  std::string NameAt(JitCode& code, uint64_t address, uint64_t time_ns) {
    const std::optional<JitSymbol> found = code.Find(address, time_ns, time_ns);
    return found.has_value() ? absl::StrCat(found->code.name, " in ", *found->path) : "";
  }
  GrowingFile& File(const std::string& path) {
    auto& file = files_.files_[path];
    if (file == nullptr) file = std::make_shared<GrowingFile>();
    return *file;
  }
  JitFiles files_;
  CodeBudget budget_;
};

constexpr uint64_t kSecond = 1'000'000'000;

TEST_F(JitCodeTest, ReadsAMapAsItGrows) {
  JitCode code(&files_, &budget_, 7);
  GrowingFile& map = File("/tmp/perf-7.map");
  map.text_ = "1000 10 a\n";
  EXPECT_EQ(NameAt(code, 0x1000, kSecond), "a in /tmp/perf-7.map");
  map.text_ += "2000 10 b\n10";
  // Not known, so looked for at once.
  EXPECT_EQ(NameAt(code, 0x2000, kSecond + 1), "b in /tmp/perf-7.map");
  map.text_ += "00 10 c\n";
  EXPECT_EQ(NameAt(code, 0x1000, kSecond + 2), "a in /tmp/perf-7.map");
  EXPECT_EQ(NameAt(code, 0x1000, kSecond + 2 * JitCode::kLookNs), "c in /tmp/perf-7.map");
  // Begun anew.
  map.text_ = "3000 10 d\n";
  EXPECT_EQ(NameAt(code, 0x3000, 2 * kSecond), "d in /tmp/perf-7.map");
  EXPECT_EQ(NameAt(code, 0x1000, 2 * kSecond), "");
  // The file is held when its process has gone.
  files_.files_.clear();
  EXPECT_EQ(NameAt(code, 0x3000, 9 * kSecond), "d in /tmp/perf-7.map");
}

TEST_F(JitCodeTest, TriesLessAndLessOftenForAMapThatDoesNotCome) {
  JitCode code(&files_, &budget_, 7);
  for (uint64_t ms = 0; ms < 10'000; ++ms) {
    code.LookForMap(ms * 1'000'000);
    EXPECT_EQ(NameAt(code, 0x1000, ms * 1'000'000), "");
  }
  EXPECT_LE(files_.tries_, 20);
  File("/tmp/perf-7.map").text_ = "1000 10 late\n";
  EXPECT_EQ(NameAt(code, 0x1000, 12 * kSecond), "late in /tmp/perf-7.map");
}

TEST_F(JitCodeTest, AJitdumpGoesBeforeAMap) {
  JitCode code(&files_, &budget_, 7);
  File("/tmp/perf-7.map").text_ = "1000 10 map\n2000 10 only map\n";
  File("/tmp/jit-7.dump").text_ =
      JitDumpImage().Load(3 * kSecond, 0x1000, "dump", std::string(16, 'x')).bytes();
  code.AddDump({.path = "/tmp/jit-7.dump"});
  code.AddDump({.path = "/tmp/jit-7.dump"});
  code.AddDump({.path = "/tmp/jit-8.dump"});
  EXPECT_EQ(NameAt(code, 0x1000, 2 * kSecond), "map in /tmp/perf-7.map");
  EXPECT_EQ(NameAt(code, 0x1000, 3 * kSecond), "dump in /tmp/jit-7.dump");
  EXPECT_EQ(NameAt(code, 0x2000, 3 * kSecond), "only map in /tmp/perf-7.map");
}

TEST_F(JitCodeTest, AForkedProcessHasItsParentsCode) {
  File("/tmp/perf-7.map").text_ = "1000 10 parents\n2000 10 parents too\n";
  const auto parent = std::make_shared<JitCode>(&files_, &budget_, 7);
  EXPECT_EQ(NameAt(*parent, 0x1000, kSecond), "parents in /tmp/perf-7.map");
  JitCode child(&files_, &budget_, 8, parent);
  File("/tmp/perf-8.map").text_ = "2000 10 childs\n";
  EXPECT_EQ(NameAt(child, 0x1000, kSecond), "parents in /tmp/perf-7.map");
  EXPECT_EQ(NameAt(child, 0x2000, kSecond), "childs in /tmp/perf-8.map");
  EXPECT_EQ(NameAt(*parent, 0x2000, kSecond), "parents too in /tmp/perf-7.map");
}

}  // namespace
}  // namespace lbrd::unwind

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "perf_data_content.h"

namespace lbrd::pmu {
namespace {

using ::testing::IsEmpty;

std::string RecordingsFolder() {
  const char* folder = getenv("LBRD_RECORDINGS");
  return folder != nullptr ? folder : LBRD_SOURCE_DIR "/../shared/recordings";
}

struct Expected {
  const char* file;
  uint64_t samples;
  uint64_t other;
  uint64_t with_branches;
  uint64_t branches;
  uint64_t with_user_stack;
  uint32_t lbr_depth;
};
class RealRecording : public testing::TestWithParam<Expected> {
 protected:
  void SetUp() override {
    path_ = absl::StrCat(RecordingsFolder(), "/", GetParam().file);
    if (!std::filesystem::exists(path_)) GTEST_SKIP() << "there is no " << path_;
  }
  std::string path_;
};

// The figures are those of perf report -D and perf script, where they can read the file.
TEST_P(RealRecording, HoldsWhatPerfSays) {
  const absl::StatusOr<std::unique_ptr<PerfData>> data = PerfData::Open(path_);
  ASSERT_TRUE(data.ok()) << data.status();
  Expected found{};
  RawRecord raw;
  absl::StatusOr<ReadResult> result = (*data)->Next(&raw);
  for (uint64_t last = 0; result.ok() && *result == ReadResult::kRecord;
       result = (*data)->Next(&raw)) {
    EXPECT_TRUE(raw.who.time == 0 || raw.who.time >= last) << "out of order";
    last = std::max(last, raw.who.time);
    const absl::StatusOr<Record> record = DecodeRaw(raw, (*data)->events()[raw.event].format);
    ASSERT_TRUE(record.ok()) << record.status();
    if (const auto* sample = std::get_if<SampleRecord>(&*record)) {
      ++found.samples;
      found.branches += sample->branch_stack.branches.size();
      found.with_branches += sample->branch_stack.branches.empty() ? 0 : 1;
      found.with_user_stack += sample->user_stack.empty() ? 0 : 1;
    } else {
      ++found.other;
    }
  }
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(found.samples, GetParam().samples);
  EXPECT_EQ(found.other, GetParam().other);
  EXPECT_EQ(found.with_branches, GetParam().with_branches);
  EXPECT_EQ(found.branches, GetParam().branches);
  EXPECT_EQ(found.with_user_stack, GetParam().with_user_stack);
  EXPECT_EQ((*data)->info().lbr_depth, GetParam().lbr_depth);
  const SourceStats stats = (*data)->stats();
  EXPECT_EQ(stats.samples, found.samples);
  EXPECT_EQ(stats.undecodable, 0u);
  EXPECT_EQ(stats.late_records, 0u);
  EXPECT_THAT((*data)->info().notes, IsEmpty());
}

// Reads a recording that was spoiled: it must end, in whatever way.
void Survive(const ByteVector& bytes) {
  const absl::StatusOr<std::unique_ptr<PerfData>> data = TryOpen(bytes);
  if (data.ok()) ReadAll(**data);
}

TEST_P(RealRecording, MaySpoilInAnyWay) {
  if (std::filesystem::file_size(path_) > 200'000) return;  // the small ones have all features
  std::ifstream file(path_, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const ByteVector whole = Text(text);
  for (size_t i = 0; i < 60; ++i) {
    Survive(ByteVector(whole.begin(), whole.begin() + whole.size() * i / 60));
    ByteVector flipped = whole;
    // The beginning, where the structure is, more often than the rest.
    const size_t at = i % 2 == 0 ? i * 8 % whole.size() : i * 104'729 % whole.size();
    flipped[at] ^= std::byte{0xff};
    Survive(flipped);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Recordings, RealRecording,
    testing::Values(Expected{"lbr-callstack-tgl-596.data", 596, 309, 531, 4870, 0, 32},
                    Expected{"lbr-any-skl-13.data", 13, 35, 13, 416, 0, 0},
                    Expected{"lbr-any-fp-systemwide-snb-1856.data", 1856, 2027, 1856, 29696, 0, 0},
                    Expected{"lbr-any-amd-zen4-8.data", 8, 118, 8, 128, 0, 16},
                    Expected{"lbr-any-hsw-145.data", 145, 8, 145, 2320, 0, 16},
                    Expected{"hybrid-rpl-7.data", 7, 111, 0, 0, 0, 32},
                    Expected{"zstd-pipe-arm64-8.data", 8, 81, 0, 0, 0, 0},
                    Expected{"zstd2-pipe-dwarf-fibo.data", 547, 1080, 0, 0, 547, 32},
                    Expected{"dwarf-regs-stack-kbl-8.data", 8, 58, 0, 0, 8, 32},
                    Expected{"pipe-header-features-6.12.data", 9, 7, 0, 0, 0, 32},
                    Expected{"lost-samples-4.4.data", 191, 51, 0, 0, 0, 0},
                    Expected{"emulated/arch-sys-6.19.data", 6920, 209, 6785, 163881, 0, 32},
                    Expected{"emulated/arch-sys-6.12.data", 5009, 207, 3356, 74494, 0, 32},
                    Expected{"emulated/arch-sys-two-users-7.2.data", 2622, 278, 2300, 66440, 0, 32},
                    Expected{"emulated/arch-deep60-6.19.data", 1759, 5, 1758, 54787, 0, 32},
                    Expected{"emulated/legacy-deep60-6.19.data", 1717, 5, 1712, 53369, 0, 32}),
    [](const auto& test) {
      std::string name = std::filesystem::path(test.param.file).stem();
      for (char& letter : name) letter = isalnum(letter) ? letter : '_';
      return name;
    });

}  // namespace
}  // namespace lbrd::pmu

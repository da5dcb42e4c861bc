#include "client/profile_index.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/client/profile_builder.h"

namespace lbrd::client {
namespace {

using ::testing::HasSubstr;

// One process with one stack of two frames.
struct SmallProfile : ProfileBuilder {
  uint32_t binary = Binary("/usr/lib/libfoo.so.1", "ab12");
  uint32_t leaf = Frame("leaf", binary, v1::FRAME_SOURCE_SAMPLED_IP);
  uint32_t root = Frame("main", binary);
  uint64_t stack = Stack({leaf, root});
  uint32_t thread = Thread(10, 11, "worker", "server");
  SmallProfile() { Entry(stack, thread, 3); }

  absl::Status BuildStatus() { return ProfileIndex::Build(profile, session).status(); }
};

void ExpectInvalid(const absl::Status& status, const char* part) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(part));
}

TEST(ProfileIndex, FindsDefinitionsById) {
  SmallProfile p;
  const auto index = ProfileIndex::Build(p.profile, p.session);
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(index->frame(p.leaf).symbol(), "leaf");
  EXPECT_EQ(index->stack(p.stack).frame_ids_size(), 2);
  EXPECT_EQ(index->thread(p.thread).tid(), 11);
  EXPECT_EQ(index->binary(p.binary)->build_id(), "ab12");
  EXPECT_EQ(index->binary(0), nullptr);
  EXPECT_EQ(index->event_count(), 1u);
  EXPECT_EQ(index->EventName(0), "cpu-clock");
  EXPECT_EQ(index->samples(0), 3u);
  EXPECT_EQ(index->total(0), 3'000'000u);
}

TEST(ProfileIndex, RefusesUnknownReferences) {
  {
    SmallProfile p;
    p.profile.mutable_definitions()->mutable_frames(0)->set_binary_id(99);
    ExpectInvalid(p.BuildStatus(), "frame 1 refers to binary 99");
  }
  {
    SmallProfile p;
    p.profile.mutable_definitions()->mutable_stacks(0)->add_frame_ids(77);
    ExpectInvalid(p.BuildStatus(), "stack 1 refers to frame 77");
  }
  {
    SmallProfile p;
    p.Entry(66, p.thread, 1);
    ExpectInvalid(p.BuildStatus(), "entry 1 refers to stack 66");
  }
  {
    SmallProfile p;
    p.Entry(p.stack, 55, 1);
    ExpectInvalid(p.BuildStatus(), "entry 1 refers to thread 55");
  }
  {
    SmallProfile p;
    p.Entry(p.stack, p.thread, 1, 4);
    ExpectInvalid(p.BuildStatus(), "entry 1 refers to event 4");
  }
}

TEST(ProfileIndex, RefusesBadIds) {
  SmallProfile zero;
  zero.profile.mutable_definitions()->add_threads();
  ExpectInvalid(zero.BuildStatus(), "a thread has id 0");
  SmallProfile twice;
  twice.profile.mutable_definitions()->add_frames()->set_id(twice.leaf);
  ExpectInvalid(twice.BuildStatus(), "frame 1 is defined twice");
}

TEST(ProfileIndex, RefusesTotalsThatOverflow) {
  SmallProfile samples;
  samples.profile.mutable_entries(0)->set_samples(std::numeric_limits<int64_t>::max());
  samples.Entry(samples.stack, samples.thread, 1);
  ExpectInvalid(samples.BuildStatus(), "overflow at entry 1");
  SmallProfile weight;
  weight.profile.mutable_entries(0)->set_weight(std::numeric_limits<uint64_t>::max());
  ExpectInvalid(weight.BuildStatus(), "overflow at entry 0");
}

TEST(ProfileIndex, CountsSamplesWhereAnEventHasNoWeights) {
  SmallProfile p;
  p.profile.mutable_entries(0)->set_weight(0);
  const auto index = ProfileIndex::Build(p.profile, p.session);
  ASSERT_TRUE(index.ok());
  EXPECT_EQ(index->total(0), 3u);
  EXPECT_EQ(index->Value(p.profile.entries(0)), 3u);
}

TEST(ProfileIndex, SaysWhichEventHasNoSamples) {
  ProfileBuilder p;
  const auto index = ProfileIndex::Build(p.profile, p.session);
  ASSERT_TRUE(index.ok());
  EXPECT_EQ(index->CheckEventHasSamples(0).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(index->CheckEventHasSamples(1).code(), absl::StatusCode::kInvalidArgument);
}

TEST(FrameLabel, NeverGuesses) {
  v1::Frame frame;
  v1::Binary binary;
  EXPECT_EQ(FrameLabel(frame, nullptr), "[unknown]");
  EXPECT_EQ(FrameLabel(frame, &binary), "[unknown]");
  binary.set_path("/usr/lib/libfoo.so.1");
  EXPECT_EQ(FrameLabel(frame, &binary), "[unknown in libfoo.so.1]");
  binary.set_path("[vdso]");
  EXPECT_EQ(FrameLabel(frame, &binary), "[unknown in vdso]");
  frame.set_symbol("operator<");
  EXPECT_EQ(FrameLabel(frame, &binary), "operator<");
  frame.clear_symbol();
  frame.set_source(v1::FRAME_SOURCE_KERNEL);
  EXPECT_EQ(FrameLabel(frame, nullptr), "[unknown in kernel]");
}

TEST(BinaryBasename, KeepsWhatIsNoPath) {
  const auto basename = [](const char* path) {
    v1::Binary binary;
    binary.set_path(path);
    return std::string(BinaryBasename(binary));
  };
  EXPECT_EQ(basename("/a/b/c.so"), "c.so");
  EXPECT_EQ(basename("c.so"), "c.so");
  EXPECT_EQ(basename("[anon:/dev/x]"), "[anon:/dev/x]");
  EXPECT_EQ(basename(""), "");
}

TEST(ProcessName, FallsBackToTheThreads) {
  v1::Thread thread;
  thread.set_comm("worker");
  EXPECT_EQ(ProcessName(thread), "worker");
  thread.set_process_comm("server");
  EXPECT_EQ(ProcessName(thread), "server");
}

}  // namespace
}  // namespace lbrd::client

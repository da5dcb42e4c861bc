#include "daemon/proto_encoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "made_samples.h"

namespace lbrd::daemon {
namespace {

using ::testing::ElementsAre;

TEST(DefinitionEncoder, SendsEachDefinitionOnce) {
  const auto binary = MakeBinary(1);
  const auto shared = MakeFrame(1, "main", binary);
  const auto a = MakeStack(1, {MakeFrame(2, "a", binary), shared});
  const auto b = MakeStack(2, {MakeFrame(3, "b", binary), shared});
  DefinitionEncoder encoder;
  v1::Definitions first;
  encoder.AddStack(*a, &first);
  encoder.AddStack(*b, &first);
  encoder.AddStack(*a, &first);
  encoder.AddThread(*MakeThread(1), &first);
  encoder.AddThread(*MakeThread(1), &first);
  EXPECT_EQ(first.stacks_size(), 2);
  EXPECT_EQ(first.frames_size(), 3);
  EXPECT_EQ(first.binaries_size(), 1);
  EXPECT_EQ(first.threads_size(), 1);
  EXPECT_THAT(first.stacks(1).frame_ids(), ElementsAre(3, 1));  // leaf first
  v1::Definitions second;
  encoder.AddStack(*b, &second);
  encoder.AddThread(*MakeThread(1), &second);
  EXPECT_EQ(second.ByteSizeLong(), 0u);
}

TEST(DefinitionEncoder, TellsAllOfAFrameAndItsStack) {
  auto frame = std::make_shared<FrameInfo>();
  frame->id = 5;
  frame->ip = 0x401234;
  frame->source = unwind::FrameSource::kDwarf;
  frame->symbol = "ns::f";
  frame->offset = 0x14;
  frame->binary = std::make_shared<BinaryInfo>(BinaryInfo{9, "/bin/x", "ab12", "stripped"});
  v1::Definitions out;
  DefinitionEncoder encoder;
  encoder.AddStack(
      *MakeStack(7, {frame},
                 {unwind::StackState::kTruncated, unwind::StackReason::kStackCopyEnded}),
      &out);
  EXPECT_EQ(out.frames(0).id(), 5u);
  EXPECT_EQ(out.frames(0).ip(), 0x401234u);
  EXPECT_EQ(out.frames(0).source(), v1::FRAME_SOURCE_DWARF);
  EXPECT_EQ(out.frames(0).symbol(), "ns::f");
  EXPECT_EQ(out.frames(0).offset(), 0x14u);
  EXPECT_EQ(out.frames(0).binary_id(), 9u);
  EXPECT_EQ(out.binaries(0).path(), "/bin/x");
  EXPECT_EQ(out.binaries(0).build_id(), "ab12");
  EXPECT_EQ(out.binaries(0).symbols_missing(), "stripped");
  EXPECT_EQ(out.stacks(0).verdict().state(), v1::STACK_STATE_TRUNCATED);
  EXPECT_EQ(out.stacks(0).verdict().reason(), "stack_copy_ended");
}

TEST(DefinitionEncoder, MakesTextOfAnyBytes) {
  const std::map<std::string, std::string> texts = {
      {"plain", "plain"},
      {"", ""},
      {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},                        // two bytes
      {"\xe2\x82\xac \xf0\x9f\x94\xa5", "\xe2\x82\xac \xf0\x9f\x94\xa5"},  // three and four
      {"\xff\xfe", "??"},
      {"a\xc3", "a?"},               // cut off
      {"\xe2\x82", "??"},            // cut off
      {"\xc0\xaf", "??"},            // overlong
      {"\xe0\x80\xaf", "???"},       // overlong
      {"\xf0\x80\x80\xaf", "????"},  // overlong
      {"\xed\xa0\x80", "???"},       // a surrogate
      {"\xf4\x90\x80\x80", "????"},  // beyond Unicode
      {"\xc3(", "?("},               // not continued
  };
  uint32_t id = 0;
  for (const auto& [bytes, text] : texts) {
    DefinitionEncoder encoder;
    v1::Definitions out;
    ++id;
    encoder.AddThread(ThreadInfo{id, 1, 1, bytes, bytes}, &out);
    encoder.AddStack(*MakeStack(id, {MakeFrame(id, bytes, MakeBinary(id, bytes))}), &out);
    EXPECT_EQ(out.threads(0).comm(), text);
    EXPECT_EQ(out.threads(0).process_comm(), text);
    EXPECT_EQ(out.frames(0).symbol(), text);
    EXPECT_EQ(out.binaries(0).path(), text);
    v1::Definitions back;  // the parser refuses strings that are not UTF-8
    EXPECT_TRUE(back.ParseFromString(out.SerializeAsString()));
  }
}

TEST(EncodeSamples, PutsSamplesInColumns) {
  DefinitionEncoder encoder;
  v1::Definitions definitions;
  v1::SampleBatch batch;
  const auto stack = MakeStack(4, {});
  std::vector<Sample> samples = {MakeSample(1000, stack, MakeThread(1)),
                                 MakeSample(1500, stack, MakeThread(2)),
                                 MakeSample(1400, stack, MakeThread(1))};  // late
  samples[1].cpu = kCpuUnknown;
  samples[2].weight = 77;
  EncodeSamples(samples, &encoder, &definitions, &batch);
  EXPECT_EQ(batch.first_time_ns(), 1000u);
  EXPECT_THAT(batch.time_delta_ns(), ElementsAre(0, 500, -100));
  EXPECT_THAT(batch.thread_ids(), ElementsAre(1, 2, 1));
  EXPECT_THAT(batch.stack_ids(), ElementsAre(4, 4, 4));
  EXPECT_THAT(batch.cpus(), ElementsAre(0, 4294967295u, 0));
  EXPECT_THAT(batch.weights(), ElementsAre(1, 1, 77));
  EXPECT_EQ(batch.events_size(), 0);  // all of the first event
  EXPECT_EQ(batch.branch_counts_size(), 0);
  EXPECT_EQ(definitions.stacks_size(), 1);
  EXPECT_EQ(definitions.threads_size(), 2);
}

TEST(EncodeSamples, PutsBranchesInColumnsOfTheirOwn) {
  DefinitionEncoder encoder;
  v1::Definitions definitions;
  v1::SampleBatch batch;
  std::vector<Sample> samples = {MakeSample(1), MakeSample(2), MakeSample(3)};
  const auto a = MakeFrame(7, "a");
  const auto b = MakeFrame(8, "b");
  samples[0].branches = std::make_shared<Branches>(Branches{{a, b, 1}, {b, a, 2}});
  samples[2].branches = std::make_shared<Branches>(Branches{{a, a, 3}});
  EncodeSamples(samples, &encoder, &definitions, &batch);
  EXPECT_THAT(batch.branch_counts(), ElementsAre(2, 0, 1));
  EXPECT_THAT(batch.branch_from_frames(), ElementsAre(7, 8, 7));
  EXPECT_THAT(batch.branch_to_frames(), ElementsAre(8, 7, 7));
  EXPECT_THAT(batch.branch_flags(), ElementsAre(1, 2, 3));
  EXPECT_EQ(definitions.frames_size(), 2);
}

TEST(EncodeSamples, TellsEventsWhereThereIsMoreThanOne) {
  DefinitionEncoder encoder;
  v1::Definitions definitions;
  v1::SampleBatch batch;
  std::vector<Sample> samples = {MakeSample(1), MakeSample(2)};
  samples[1].event = 2;
  EncodeSamples(samples, &encoder, &definitions, &batch);
  EXPECT_THAT(batch.events(), ElementsAre(0, 2));
}

TEST(EncodeSamples, MakesNothingOfNothing) {
  DefinitionEncoder encoder;
  v1::Definitions definitions;
  v1::SampleBatch batch;
  EncodeSamples({}, &encoder, &definitions, &batch);
  EXPECT_EQ(batch.ByteSizeLong(), 0u);
}

TEST(EncodeProfile, TellsEveryLineAndDefinesWhatItRefersTo) {
  ProfileTable table;
  const auto stack = MakeStack(1, {MakeFrame(1, "f", MakeBinary(1))});
  Sample sample = MakeSample(1, stack, MakeThread(1));
  sample.weight = 10;
  table.Add({&sample, 1});
  table.Add({&sample, 1});
  sample.event = 1;
  sample.weight = 3;
  table.Add({&sample, 1});
  v1::Profile profile;
  DefinitionEncoder definitions;
  EncodeProfile(table.CopyEntries(), &definitions, &profile);
  ASSERT_EQ(profile.entries_size(), 2);
  EXPECT_EQ(profile.definitions().stacks_size(), 1);
  EXPECT_EQ(profile.definitions().frames_size(), 1);
  EXPECT_EQ(profile.definitions().binaries_size(), 1);
  for (const v1::ProfileEntry& entry : profile.entries()) {
    EXPECT_EQ(entry.stack_id(), 1u);
    EXPECT_EQ(entry.thread_id(), 1u);
    EXPECT_EQ(entry.samples(), entry.event() == 0 ? 2u : 1u);
    EXPECT_EQ(entry.weight(), entry.event() == 0 ? 20u : 3u);
  }
}

}  // namespace
}  // namespace lbrd::daemon

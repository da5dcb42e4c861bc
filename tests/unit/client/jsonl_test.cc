#include "client/jsonl.h"

#include <limits>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/unit/client/profile_builder.h"

namespace lbrd::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

std::vector<Json> Parse(const std::string& lines) {
  std::vector<Json> parsed;
  for (const absl::string_view line : absl::StrSplit(lines, '\n', absl::SkipEmpty())) {
    parsed.push_back(Json::parse(line.begin(), line.end(), nullptr, false));
    EXPECT_FALSE(parsed.back().is_discarded()) << line;
  }
  return parsed;
}

std::vector<std::string> Keys(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;  // sorted by nlohmann
}

void AddSample(v1::SampleBatch* batch, int64_t delta, uint64_t stack, uint32_t thread,
               uint32_t cpu) {
  batch->add_time_delta_ns(delta);
  batch->add_stack_ids(stack);
  batch->add_thread_ids(thread);
  batch->add_cpus(cpu);
  batch->add_weights(1'000'000);
}

struct Stream : ProfileBuilder {
  uint32_t binary = Binary("/opt/\"server\"", "ab12");
  uint32_t kernel = Frame("do_syscall_64", 0, v1::FRAME_SOURCE_KERNEL);
  uint32_t leaf = Frame("operator<\\\x01", binary, v1::FRAME_SOURCE_SAMPLED_IP);
  uint32_t nameless = Frame("", binary, v1::FRAME_SOURCE_LBR);
  uint64_t stack = Stack({kernel, leaf, nameless}, "lbr_full");
  uint32_t thread = Thread(10, 11, "w\nrk", "server");
  v1::StreamSamplesResponse message;
  std::string out;

  Stream() {
    *message.mutable_definitions() = profile.definitions();
    message.mutable_samples()->set_first_time_ns(1'000'000'000'000'000'005);
  }
  v1::SampleBatch* batch() { return message.mutable_samples(); }
};

TEST(Jsonl, WritesEachSample) {
  Stream s;
  JsonlWriter writer(s.session);
  AddSample(s.batch(), 0, s.stack, s.thread, 3);
  AddSample(s.batch(), 1000, s.stack, s.thread, 4294967295);
  AddSample(s.batch(), -500, s.stack, s.thread, 0);
  ASSERT_TRUE(writer.Append(s.message, s.out).ok());
  const std::vector<Json> samples = Parse(s.out);
  ASSERT_EQ(samples.size(), 3u);
  const Json& first = samples[0];
  EXPECT_THAT(Keys(first), ElementsAre("comm", "cpu", "event", "pid", "stack", "tid", "time",
                                       "verdict", "weight"));
  EXPECT_EQ(first["time"], 1'000'000'000'000'000'005u);
  EXPECT_EQ(samples[1]["time"], 1'000'000'000'000'001'005u);
  EXPECT_EQ(samples[2]["time"], 1'000'000'000'000'000'505u);
  EXPECT_EQ(first["pid"], 10);
  EXPECT_EQ(first["tid"], 11);
  EXPECT_EQ(first["comm"], "w\nrk");
  EXPECT_EQ(first["cpu"], 3);
  EXPECT_TRUE(samples[1]["cpu"].is_null());
  EXPECT_EQ(samples[2]["cpu"], 0);
  EXPECT_EQ(first["event"], "cpu-clock");
  EXPECT_EQ(first["weight"], 1'000'000);
  EXPECT_EQ(first["verdict"], (Json{{"state", "truncated"}, {"reason", "lbr_full"}}));
  EXPECT_EQ(samples[1]["stack"], first["stack"]);

  const Json& stack = first["stack"];
  ASSERT_EQ(stack.size(), 3u);
  EXPECT_THAT(Keys(stack[0]), ElementsAre("build_id", "dso", "ip", "offset", "source", "symbol"));
  EXPECT_EQ(stack[0]["ip"].get<uint64_t>(), 0xffffffff81000010u);
  EXPECT_EQ(stack[0]["source"], "kernel");
  EXPECT_TRUE(stack[0]["dso"].is_null());
  EXPECT_TRUE(stack[0]["build_id"].is_null());
  EXPECT_EQ(stack[1]["symbol"], "operator<\\\x01");
  EXPECT_EQ(stack[1]["dso"], "/opt/\"server\"");
  EXPECT_EQ(stack[1]["build_id"], "ab12");
  EXPECT_EQ(stack[1]["source"], "sampled_ip");
  EXPECT_EQ(stack[1]["offset"], 8);
  EXPECT_TRUE(stack[2]["symbol"].is_null());
  EXPECT_EQ(stack[2]["source"], "lbr");
}

TEST(Jsonl, RemembersDefinitionsOfEarlierMessages) {
  Stream s;
  JsonlWriter writer(s.session, 1);  // every stack is rendered anew
  ASSERT_TRUE(writer.Append(s.message, s.out).ok());
  EXPECT_EQ(s.out, "");
  s.message.clear_definitions();
  AddSample(s.batch(), 0, s.stack, s.thread, 0);
  ASSERT_TRUE(writer.Append(s.message, s.out).ok());
  ASSERT_TRUE(writer.Append(s.message, s.out).ok());
  const std::vector<Json> samples = Parse(s.out);
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[0], samples[1]);
}

TEST(Jsonl, NamesTheEventOfEachSample) {
  Stream s;
  s.AddEvent("cycles", "cycles", 1);
  JsonlWriter writer(s.session);
  AddSample(s.batch(), 0, s.stack, s.thread, 0);
  AddSample(s.batch(), 0, s.stack, s.thread, 0);
  s.batch()->add_events(1);
  s.batch()->add_events(0);
  ASSERT_TRUE(writer.Append(s.message, s.out).ok());
  const std::vector<Json> samples = Parse(s.out);
  EXPECT_EQ(samples[0]["event"], "cycles");
  EXPECT_EQ(samples[1]["event"], "cpu-clock");
}

TEST(Jsonl, RefusesWhatDoesNotFit) {
  const auto expect_refused = [](Stream& s, const char* part) {
    JsonlWriter writer(s.session);
    s.out = "kept";
    const absl::Status status = writer.Append(s.message, s.out);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
    EXPECT_EQ(s.out, "kept");
  };
  Stream columns;
  AddSample(columns.batch(), 0, columns.stack, columns.thread, 0);
  columns.batch()->add_weights(1);
  expect_refused(columns, "differ in length");
  Stream stack;
  AddSample(stack.batch(), 0, stack.stack, stack.thread, 0);
  AddSample(stack.batch(), 0, 99, stack.thread, 0);
  expect_refused(stack, "stack 99");
  Stream thread;
  AddSample(thread.batch(), 0, thread.stack, 98, 0);
  expect_refused(thread, "thread 98");
  Stream event;
  AddSample(event.batch(), 0, event.stack, event.thread, 0);
  event.batch()->add_events(5);
  expect_refused(event, "event 5");
  Stream frame;
  frame.message.mutable_definitions()->mutable_stacks(0)->add_frame_ids(97);
  AddSample(frame.batch(), 0, frame.stack, frame.thread, 0);
  expect_refused(frame, "frame 97");
  Stream binary;
  binary.message.mutable_definitions()->mutable_frames(1)->set_binary_id(96);
  AddSample(binary.batch(), 0, binary.stack, binary.thread, 0);
  expect_refused(binary, "binary 96");
}

TEST(JsonString, ReplacesInvalidUtf8) {
  std::string bytes;
  for (int c = 1; c < 256; ++c) bytes.push_back(static_cast<char>(c));
  bytes += "\xC3\xA9\xE2\x80";
  std::string out;
  AppendJsonString(bytes, out);
  const Json parsed = Json::parse(out, nullptr, false);
  ASSERT_TRUE(parsed.is_string()) << out;
  const std::string text = parsed.get<std::string>();
  EXPECT_EQ(text.substr(0, 127), bytes.substr(0, 127));
  EXPECT_THAT(text, HasSubstr("\xEF\xBF\xBD\xC3\xA9\xEF\xBF\xBD"));
}

TEST(Jsonl, ShowsBranches) {
  Stream s;
  const uint32_t inlines = s.Frame("outer", s.binary, v1::FRAME_SOURCE_LBR);
  s.profile.mutable_definitions()
      ->mutable_frames(s.profile.definitions().frames_size() - 1)
      ->add_inlined()
      ->set_function("inner");
  *s.message.mutable_definitions() = s.profile.definitions();
  JsonlWriter writer(s.session);
  for (int i = 0; i < 3; ++i) AddSample(s.batch(), 0, s.stack, s.thread, 0);
  for (const uint32_t count : {2, 0, 1}) s.batch()->add_branch_counts(count);
  for (const uint32_t from : {s.leaf, s.nameless, inlines}) s.batch()->add_branch_from_frames(from);
  for (const uint32_t to : {s.nameless, s.leaf, s.kernel}) s.batch()->add_branch_to_frames(to);
  for (const uint64_t flags : {0x1, 0x1232, 0x0}) s.batch()->add_branch_flags(flags);
  ASSERT_TRUE(writer.Append(s.message, s.out).ok());
  const std::vector<Json> samples = Parse(s.out);
  ASSERT_EQ(samples.size(), 3u);
  ASSERT_EQ(samples[0]["branches"].size(), 2u);
  EXPECT_EQ(samples[0]["branches"][0]["from"]["symbol"], "operator<\\\x01");
  EXPECT_EQ(samples[0]["branches"][0]["mispredicted"], true);
  EXPECT_TRUE(samples[0]["branches"][0]["cycles"].is_null());
  EXPECT_EQ(samples[0]["branches"][1]["to"]["symbol"], "operator<\\\x01");
  EXPECT_EQ(samples[0]["branches"][1]["mispredicted"], false);
  EXPECT_EQ(samples[0]["branches"][1]["cycles"], 0x123);
  EXPECT_EQ(samples[1]["branches"].size(), 0u);
  // Of a place, the function itself, not what was inlined there.
  EXPECT_EQ(samples[2]["branches"][0]["from"]["symbol"], "outer");
  EXPECT_EQ(samples[2]["branches"][0]["to"]["symbol"], "do_syscall_64");
  EXPECT_TRUE(samples[2]["branches"][0]["mispredicted"].is_null());
  EXPECT_EQ(samples[0]["stack"].size(), 3u);
  // Columns of unequal length, and a frame that nobody has defined.
  v1::StreamSamplesResponse odd = s.message;
  odd.mutable_samples()->add_branch_flags(0);
  EXPECT_FALSE(writer.Append(odd, s.out).ok());
  odd = s.message;
  odd.mutable_samples()->set_branch_counts(0, 1u << 31);
  EXPECT_FALSE(writer.Append(odd, s.out).ok());
  odd = s.message;
  odd.mutable_samples()->set_branch_to_frames(1, 99);
  EXPECT_FALSE(writer.Append(odd, s.out).ok());
}

TEST(Jsonl, AGapIsAnObjectOfItsOwnAndVoidsAllIds) {
  Stream s;
  AddSample(s.batch(), 0, s.stack, s.thread, 1);
  JsonlWriter writer((v1::Session()));
  ASSERT_TRUE(writer.Append(s.message, s.out).ok());
  // The next engine gives the same ids to other things.
  v1::StreamSamplesResponse next = s.message;
  v1::StreamGap* gap = next.add_gaps();
  gap->set_from_ns(5);
  gap->set_to_ns(18'446'744'073'709'551'615u);
  gap->set_why("it \"died\"");
  gap->set_samples_not_received(3);
  for (v1::Frame& frame : *next.mutable_definitions()->mutable_frames()) frame.set_symbol("other");
  next.mutable_definitions()->mutable_threads(0)->set_comm("other");
  s.out.clear();
  ASSERT_TRUE(writer.Append(next, s.out).ok());
  const std::vector<Json> lines = Parse(s.out);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(Keys(lines[0]), ElementsAre("gap"));
  EXPECT_EQ(lines[0]["gap"]["from"], 5);
  EXPECT_EQ(lines[0]["gap"]["to"], 18'446'744'073'709'551'615u);
  EXPECT_EQ(lines[0]["gap"]["why"], "it \"died\"");
  EXPECT_EQ(lines[0]["gap"]["samples_not_received"], 3);
  EXPECT_EQ(lines[1]["comm"], "other");
  EXPECT_EQ(lines[1]["stack"][0]["symbol"], "other");
  // What it has not defined is unknown, whatever the one before had.
  next.mutable_definitions()->Clear();
  EXPECT_FALSE(writer.Append(next, s.out).ok());
}

}  // namespace
}  // namespace lbrd::client

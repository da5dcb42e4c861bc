// Frames with inlined functions, in every view.
#include "client/flame_tree.h"
#include "client/folded.h"
#include "client/hot_functions.h"
#include "client/jsonl.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/unit/client/profile_builder.h"

namespace lbrd::client {
namespace {

// main calls f, in which g is inlined, in which h is.
struct Inlined : ProfileBuilder {
  uint32_t binary = Binary("/bin/prog");
  uint32_t leaf = Frame("f", binary, v1::FRAME_SOURCE_SAMPLED_IP);
  uint32_t root = Frame("main", binary);
  uint64_t stack = Stack({leaf, root});
  uint32_t thread = Thread(1, 1, "prog", "prog");

  Inlined() {
    v1::Frame* f = profile.mutable_definitions()->mutable_frames(0);
    f->set_file("/src/f.cc");
    f->set_line(30);
    for (const auto& [name, line] : {std::pair("h", 10u), std::pair("g", 20u)}) {
      v1::InlinedCall* call = f->add_inlined();
      call->set_function(name);
      call->set_file(std::string("/src/") + name + ".h");
      call->set_line(line);
    }
    Entry(stack, thread, 3);
  }
  ProfileIndex Index() const { return ProfileIndex::Build(profile, session).value(); }
};

TEST(InlinedFrames, AreMarkedInFoldedStacks) {
  const Inlined p;
  EXPECT_EQ(RenderFolded(p.Index()).value(), "prog;main;f;g_[i];h_[i] 3000000\n");
}

TEST(InlinedFrames, TheInnermostRunsItself) {
  const Inlined p;
  const HotFunctionList list = HotFunctions(p.Index(), {}).value();
  ASSERT_EQ(list.rows.size(), 4u);
  EXPECT_EQ(list.rows[0].symbol, "h (inlined)");
  EXPECT_EQ(list.rows[0].self_samples, 3u);
  for (const HotFunction& row : list.rows) EXPECT_EQ(row.total_samples, 3u) << row.symbol;
  for (size_t i = 1; i < list.rows.size(); ++i) EXPECT_EQ(list.rows[i].self_samples, 0u);
}

TEST(InlinedFrames, AreNodesOfTheFlameTree) {
  const Inlined p;
  const FlameTree tree = BuildFlameTree(p.Index(), 0).value();
  std::vector<std::string> labels;
  for (const FlameNode& node : tree.nodes) labels.push_back(node.label);
  EXPECT_EQ(labels, (std::vector<std::string>{"all", "prog (1)", "main", "f", "g (inlined)",
                                              "h (inlined)"}));
}

TEST(InlinedFrames, AreEntriesOfTheirOwnInJsonl) {
  const Inlined p;
  v1::StreamSamplesResponse message;
  *message.mutable_definitions() = p.profile.definitions();
  v1::SampleBatch* batch = message.mutable_samples();
  batch->add_time_delta_ns(0);
  batch->add_stack_ids(p.stack);
  batch->add_thread_ids(p.thread);
  batch->add_weights(1);
  std::string out;
  JsonlWriter writer(p.session);
  ASSERT_TRUE(writer.Append(message, out).ok());
  const auto stack = nlohmann::json::parse(out)["stack"];
  ASSERT_EQ(stack.size(), 4u);
  EXPECT_EQ(stack[0]["symbol"], "h");
  EXPECT_EQ(stack[0]["inlined"], true);
  EXPECT_EQ(stack[0]["file"], "/src/h.h");
  EXPECT_EQ(stack[0]["line"], 10);
  EXPECT_TRUE(stack[0]["offset"].is_null());
  EXPECT_EQ(stack[0]["ip"], stack[2]["ip"]);
  EXPECT_EQ(stack[0]["dso"], "/bin/prog");
  EXPECT_EQ(stack[1]["symbol"], "g");
  EXPECT_EQ(stack[2]["symbol"], "f");
  EXPECT_FALSE(stack[2].contains("inlined"));
  EXPECT_EQ(stack[2]["line"], 30);
  EXPECT_EQ(stack[3]["symbol"], "main");
  EXPECT_FALSE(stack[3].contains("file"));
}

}  // namespace
}  // namespace lbrd::client

#include "client/folded.h"

#include "gtest/gtest.h"
#include "tests/unit/client/profile_builder.h"

namespace lbrd::client {
namespace {

TEST(Folded, MergesEqualStacksRootFirst) {
  ProfileBuilder p;
  const uint32_t leaf = p.Frame("leaf", 0, v1::FRAME_SOURCE_SAMPLED_IP);
  const uint32_t leaf_by_dwarf = p.Frame("leaf", 0, v1::FRAME_SOURCE_DWARF);
  const uint32_t root = p.Frame("main");
  const uint32_t one = p.Thread(10, 10, "server", "server");
  const uint32_t two = p.Thread(20, 21, "worker", "server");
  p.Entry(p.Stack({leaf, root}), one, 2);
  p.Entry(p.Stack({leaf_by_dwarf, root}), two, 3);
  p.Entry(p.Stack({root}), one, 1);
  const auto index = ProfileIndex::Build(p.profile, p.session);
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(RenderFolded(*index).value(), "server;main 1000000\nserver;main;leaf 5000000\n");
}

TEST(Folded, ShowsCutStacksAndKeepsFieldsApart) {
  ProfileBuilder p;
  const uint32_t frame = p.Frame("<[T; N] as\nDebug>::fmt");
  p.Entry(p.Stack({frame}, "stack_copy_ended"), p.Thread(1, 1, "a;b", ""), 1);
  const auto index = ProfileIndex::Build(p.profile, p.session);
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(RenderFolded(*index).value(),
            "a:b;[truncated: stack_copy_ended];<[T: N] as\xEF\xBF\xBD"
            "Debug>::fmt 1000000\n");
}

TEST(Folded, RefusesAnEmptyProfile) {
  ProfileBuilder p;
  const auto index = ProfileIndex::Build(p.profile, p.session);
  ASSERT_TRUE(index.ok());
  EXPECT_EQ(RenderFolded(*index).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace lbrd::client

#include "unwind/address_space.h"

#include <array>
#include <random>

#include "gtest/gtest.h"

namespace lbrd::unwind {
namespace {

std::shared_ptr<const Binary> File(const std::string& path) {
  return std::make_shared<Binary>(FileIdentity{.path = path}, "made up");
}

Mapping Of(uint64_t start, uint64_t end, uint64_t offset, std::shared_ptr<const Binary> binary) {
  return {.start = start, .end = end, .file_offset = offset, .binary = std::move(binary)};
}

struct Shape {
  uint64_t start, end, file_offset;
  std::string path;
  bool operator==(const Shape&) const = default;
};

void PrintTo(const Shape& s, std::ostream* out) {
  *out << s.path << " [" << s.start << ", " << s.end << ") at " << s.file_offset;
}

std::vector<Shape> Shapes(const AddressSpace& space) {
  std::vector<Shape> shapes;
  for (const Mapping& m : space.mappings()) {
    shapes.push_back({m.start, m.end, m.file_offset, m.binary->path()});
  }
  return shapes;
}

TEST(AddressSpace, FindsWithinAndNotAtTheEnd) {
  AddressSpace space;
  EXPECT_EQ(space.Find(0), nullptr);
  ASSERT_TRUE(space.Map(Of(0x1000, 0x2000, 0, File("a"))));
  EXPECT_EQ(space.Find(0xfff), nullptr);
  ASSERT_NE(space.Find(0x1000), nullptr);
  EXPECT_EQ(space.Find(0x1fff), space.Find(0x1000));
  EXPECT_EQ(space.Find(0x2000), nullptr);
}

TEST(AddressSpace, TakesNoEmptyMapping) {
  AddressSpace space;
  EXPECT_FALSE(space.Map(Of(0x1000, 0x1000, 0, File("a"))));
  EXPECT_FALSE(space.Map(Of(0x2000, 0x1000, 0, File("a"))));
  EXPECT_TRUE(space.mappings().empty());
}

TEST(AddressSpace, SplitsWhatItFallsInto) {
  AddressSpace space;
  space.Map(Of(0x1000, 0x9000, 0x100, File("a")));
  space.Map(Of(0x3000, 0x4000, 0x7000, File("b")));
  const std::vector<Shape> want = {
      {0x1000, 0x3000, 0x100, "a"}, {0x3000, 0x4000, 0x7000, "b"}, {0x4000, 0x9000, 0x3100, "a"}};
  EXPECT_EQ(Shapes(space), want);
}

TEST(AddressSpace, TrimsItsNeighbours) {
  AddressSpace space;
  space.Map(Of(0x1000, 0x3000, 0, File("a")));
  space.Map(Of(0x3000, 0x5000, 0x10, File("b")));
  space.Map(Of(0x2000, 0x4000, 0, File("c")));
  const std::vector<Shape> want = {
      {0x1000, 0x2000, 0, "a"}, {0x2000, 0x4000, 0, "c"}, {0x4000, 0x5000, 0x1010, "b"}};
  EXPECT_EQ(Shapes(space), want);
}

TEST(AddressSpace, CoversWhatItHolds) {
  AddressSpace space;
  space.Map(Of(0x1000, 0x2000, 0, File("a")));
  space.Map(Of(0x2000, 0x3000, 0, File("b")));
  space.Map(Of(0x4000, 0x5000, 0, File("c")));
  space.Map(Of(0x1000, 0x5000, 7, File("d")));
  EXPECT_EQ(Shapes(space), (std::vector<Shape>{{0x1000, 0x5000, 7, "d"}}));
}

TEST(AddressSpace, ReachesTheLastAddresses) {
  AddressSpace space;
  const uint64_t top = ~uint64_t{0};
  space.Map(Of(top - 0x1000, top, 0, File("a")));
  space.Map(Of(top - 0x10, top, 0, File("b")));
  ASSERT_NE(space.Find(top - 1), nullptr);
  EXPECT_EQ(space.Find(top - 1)->binary->path(), "b");
  EXPECT_EQ(space.Find(top), nullptr);
}

TEST(AddressSpace, GenerationNamesTheContent) {
  AddressSpace one;
  AddressSpace two;
  EXPECT_EQ(one.generation(), two.generation());
  const auto file = File("a");
  one.Map(Of(0x1000, 0x2000, 0, file));
  two.Map(Of(0x1000, 0x3000, 0, file));
  // As many changes, other content.
  EXPECT_NE(one.generation(), two.generation());

  const uint64_t before = one.generation();
  EXPECT_TRUE(one.Map(Of(0x1000, 0x2000, 0, file)));  // said again
  EXPECT_EQ(one.generation(), before);
  two.Map(Of(0x3000, 0x4000, 0, file));
  const uint64_t with_neighbour = two.generation();
  EXPECT_TRUE(two.Map(Of(0x1000, 0x3000, 0, file)));
  EXPECT_EQ(two.generation(), with_neighbour);
  // The same place, another part of the file or another file.
  EXPECT_TRUE(two.Map(Of(0x1000, 0x3000, 0x1000, file)));
  EXPECT_NE(two.generation(), with_neighbour);
  EXPECT_EQ(two.Find(0x1000)->file_offset, 0x1000u);
  EXPECT_TRUE(two.Map(Of(0x1000, 0x3000, 0x1000, File("b"))));
  EXPECT_EQ(two.Find(0x1000)->binary->path(), "b");
  EXPECT_EQ(one.generation(), before);
  AddressSpace copy = one;
  EXPECT_EQ(copy.generation(), before);
  copy.Map(Of(0x5000, 0x6000, 0, file));
  EXPECT_NE(copy.generation(), before);
  one.Clear();
  EXPECT_NE(one.generation(), before);
  EXPECT_TRUE(one.mappings().empty());
}

TEST(AddressSpace, HoldsExactlyItsLimit) {
  AddressSpace space;
  const auto file = File("a");
  for (uint64_t i = 0; i < AddressSpace::kMaxMappings; ++i) {
    ASSERT_TRUE(space.Map(Of(0x1000 * i, 0x1000 * i + 0x800, 0, file))) << i;
  }
  const uint64_t full = space.generation();
  EXPECT_FALSE(space.Map(Of(0x1800, 0x1900, 0, file)));
  EXPECT_FALSE(space.Map(Of(0x1100, 0x1200, 0, File("b"))));  // would be three of one
  EXPECT_EQ(space.mappings().size(), AddressSpace::kMaxMappings);
  EXPECT_EQ(space.generation(), full);
  EXPECT_TRUE(space.Map(Of(0x1000, 0x1800, 0, File("b"))));  // in place of another
  EXPECT_EQ(space.Find(0x1000)->binary->path(), "b");
}

// Against a map of every single address.
TEST(AddressSpace, AgreesWithAMapOfBytes) {
  constexpr uint64_t kAddresses = 96;
  struct Byte {
    const Binary* binary = nullptr;
    uint64_t file_offset = 0;
  };
  const std::array<std::shared_ptr<const Binary>, 3> files = {File("a"), File("b"), File("c")};
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    AddressSpace space;
    std::array<Byte, kAddresses> bytes{};
    for (int step = 0; step < 40; ++step) {
      if (random() % 32 == 0) {
        space.Clear();
        bytes.fill({});
      }
      const uint64_t start = random() % kAddresses;
      const uint64_t end = start + 1 + random() % std::min<uint64_t>(24, kAddresses - start);
      const uint64_t offset = random() % 4 * 0x1000;
      const auto& file = files[random() % files.size()];
      ASSERT_TRUE(space.Map(Of(start, end, offset, file)));
      for (uint64_t a = start; a < end; ++a) bytes[a] = {file.get(), offset + a - start};

      uint64_t last_end = 0;
      for (const Mapping& m : space.mappings()) {
        ASSERT_LT(m.start, m.end);
        ASSERT_LE(last_end, m.start);
        last_end = m.end;
      }
      for (uint64_t a = 0; a < kAddresses; ++a) {
        const Mapping* found = space.Find(a);
        ASSERT_EQ(found != nullptr ? found->binary.get() : nullptr, bytes[a].binary)
            << "seed " << seed << " step " << step << " address " << a;
        if (found != nullptr) {
          ASSERT_EQ(a - found->start + found->file_offset, bytes[a].file_offset)
              << "seed " << seed << " step " << step << " address " << a;
        }
      }
    }
  }
}

}  // namespace
}  // namespace lbrd::unwind

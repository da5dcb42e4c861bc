#include "pmu/record_chunks.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace lbrd::pmu {
namespace {

constexpr size_t kChunkBytes = 2 * size_t{kMaxRecordBytes};

TEST(ChunkPool, SpareMemoryIsUsedBeforeOtherIsAskedFor) {
  ChunkPool pool(kChunkBytes);
  std::vector<uint32_t> chunks(ChunkPool::kSpareChunks + 8);
  constexpr uint64_t kMark = 0x5a17e0fc0ffee000;
  for (uint32_t& chunk : chunks) {
    chunk = pool.Acquire();
    for (size_t at = 0; at < kChunkBytes; at += sizeof(kMark)) {
      std::memcpy(pool.data(chunk) + at, &kMark, sizeof(kMark));
    }
  }
  EXPECT_EQ(pool.bytes_in_use(), chunks.size() * kChunkBytes);
  for (const uint32_t chunk : chunks) pool.Release(chunk);
  EXPECT_EQ(pool.bytes_in_use(), 0u);
  for (size_t i = 0; i < ChunkPool::kSpareChunks; ++i) {
    uint64_t mark = 0;
    std::memcpy(&mark, pool.data(pool.Acquire()) + kChunkBytes / 2, sizeof(mark));
    EXPECT_EQ(mark, kMark) << i;
  }
  EXPECT_EQ(pool.bytes_in_use(), ChunkPool::kSpareChunks * kChunkBytes);
}

TEST(ChunkPool, AChunkIsFreeWhenNeitherUsersNorKeepersHaveIt) {
  ChunkPool pool(kChunkBytes);
  const uint32_t chunk = pool.Acquire();
  ASSERT_TRUE(pool.Keep(chunk));
  pool.Release(chunk);
  EXPECT_EQ(pool.bytes_in_use(), 0u) << "keepers are counted apart";
  const uint32_t other = pool.Acquire();
  EXPECT_NE(other, chunk);
  pool.LetGo(chunk);
  EXPECT_EQ(pool.Acquire(), chunk);
}

TEST(ChunkPool, SoManyCanBeKept) {
  ChunkPool pool(kChunkBytes);
  std::vector<uint32_t> kept;
  for (size_t i = 0; i < ChunkPool::kMaxKeptChunks; ++i) {
    kept.push_back(pool.Acquire());
    ASSERT_TRUE(pool.Keep(kept.back()));
  }
  const uint32_t more = pool.Acquire();
  EXPECT_FALSE(pool.Keep(more));
  EXPECT_TRUE(pool.Keep(kept.back())) << "it has a keeper already";
  pool.LetGo(kept.front());
  EXPECT_TRUE(pool.Keep(more));
}

}  // namespace
}  // namespace lbrd::pmu

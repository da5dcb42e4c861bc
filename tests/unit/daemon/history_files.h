// A folder for a history, and buckets made up to fill it.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "daemon/history_bucket.h"
#include "made_samples.h"

namespace lbrd::daemon {

class HistoryFolder {
 public:
  HistoryFolder() {
    // In memory where that can be had: what is tested is not the disk.
    const std::filesystem::path root =
        std::filesystem::exists("/dev/shm") ? "/dev/shm" : std::filesystem::temp_directory_path();
    std::string name = (root / "lbrd-history-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~HistoryFolder() { std::filesystem::remove_all(path_); }
  std::string file() const { return path_ + "/history.db"; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline constexpr int64_t kSecond = 1'000'000'000;

inline std::shared_ptr<const ProcessOrigin> MakeFacts(uint32_t uid, std::string cgroup = "/a",
                                                      std::string exe = "/usr/bin/x") {
  return std::make_shared<ProcessOrigin>(ProcessOrigin{.start_ticks = 7,
                                                       .uid = uid,
                                                       .owner = uid,
                                                       .cgroup = std::move(cgroup),
                                                       .exe = std::move(exe)});
}

inline HistoryBucket MakeBucket(int64_t second, std::vector<HistoryEntry> entries,
                                std::string session = "s") {
  return {.session = std::move(session),
          .event = "cycles",
          .unit = "cycles",
          .begin_ns = second * kSecond,
          .end_ns = (second + 10) * kSecond,
          .entries = std::move(entries)};
}

// Stacks of `depth` frames that no other number shares but for their root.
inline std::shared_ptr<const StackInfo> NumberedStack(uint32_t number, uint32_t depth = 8) {
  std::vector<std::shared_ptr<const FrameInfo>> frames;
  for (uint32_t i = 0; i < depth; ++i) {
    frames.push_back(MakeFrame(i + 1,
                               "function " + std::to_string(number) + " level " + std::to_string(i),
                               MakeBinary(1)));
  }
  frames.push_back(MakeFrame(100, "main", MakeBinary(1)));
  return MakeStack(number, std::move(frames));
}

}  // namespace lbrd::daemon

// A question to the history, and its answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/sample.h"

namespace lbrd::daemon {

// What samples can be grouped by. Binary, build ID and function are those of the frame that ran.
enum class HistoryKey {
  kSession,
  kEvent,
  kTime,  // the beginning of the bucket, Unix time in seconds
  kPid,
  kTid,
  kComm,     // the thread's name
  kProcess,  // its group leader's name
  kCgroup,
  kUid,
  kExe,
  kBinary,
  kBuildId,
  kFunction,
  kStack,  // as folded text
};

// Only samples that match everything that is set are counted.
struct HistoryQuery {
  int64_t since_ns = 0;  // Unix time; a bucket counts as a whole if any of it is in the range
  int64_t until_ns = INT64_MAX;
  std::string session;
  std::string event;
  std::optional<int32_t> pid;
  std::optional<int32_t> tid;
  std::string comm;    // of the thread or its process
  std::string cgroup;  // or one below it
  std::optional<uint32_t> uid;
  std::string exe;       // its path, or the last component of it
  std::string build_id;  // or how it begins: of any binary on the stack
  // Empty: by thread and stack, as entries.
  std::vector<HistoryKey> by;
  size_t limit = 0;  // of rows or entries, those with the largest weight; 0: kMaxRows
  // Set: only this user's own processes, no session of others, and no addresses of the kernel.
  std::optional<uint32_t> visible_to;
};

struct HistoryGap {
  int64_t begin_ns = 0;  // Unix time
  int64_t end_ns = 0;
  uint64_t samples = 0;  // known to be lost; 0: none, or nobody knows
  std::string why;
};

struct HistoryAnswer {
  struct Event {
    std::string name;
    std::string unit;
  };
  struct Row {
    std::vector<std::string> keys;  // as asked for by HistoryQuery::by
    uint32_t event = 0;             // index into `events`; rows of two events are never one
    uint64_t samples = 0;
    uint64_t weight = 0;
  };
  struct Entry {
    std::shared_ptr<const StackInfo> stack;
    std::shared_ptr<const ThreadInfo> thread;
    uint32_t event = 0;
    uint64_t samples = 0;
    uint64_t weight = 0;
  };

  std::vector<Event> events;
  std::vector<Row> rows;       // largest weight first, the events apart
  std::vector<Entry> entries;  // so too
  uint64_t samples = 0;        // of all that matched, shown or not
  uint64_t rows_not_shown = 0;
  uint64_t samples_not_shown = 0;
  // Lost before they were stored, in the range and of the session if one is named, whatever else
  // was asked: nobody knows whose they were.
  uint64_t samples_dropped = 0;
  int64_t begin_ns = 0;  // what the buckets counted cover; begin == end: no bucket
  int64_t end_ns = 0;
  int64_t oldest_ns = 0;      // where the history begins; 0: it is empty
  int64_t resolution_ns = 0;  // the longest of the buckets counted
  uint64_t gap_count = 0;
  std::vector<HistoryGap> gaps;  // the first kMaxGaps
  std::vector<std::string> notes;
};

}  // namespace lbrd::daemon

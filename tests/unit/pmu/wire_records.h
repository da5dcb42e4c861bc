// Records word by word as the kernel lays them out for the attrs of pmu/event_request.h: samples
// with IDENTIFIER, IP, TID, TIME, CPU, PERIOD and CALLCHAIN, and everything else with a sample_id
// of TID, TIME, CPU and IDENTIFIER behind it.
#pragma once

#include <linux/perf_event.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "pmu/record.h"
#include "pmu/record_writer.h"

namespace lbrd::pmu {

using Words = std::vector<uint64_t>;

inline uint64_t HeaderWord(uint32_t type, uint16_t misc, size_t bytes) {
  const perf_event_header header{.type = type, .misc = misc, .size = static_cast<uint16_t>(bytes)};
  uint64_t word;
  std::memcpy(&word, &header, sizeof(word));
  return word;
}

inline uint64_t Pair(uint32_t low, uint32_t high) { return uint64_t{high} << 32 | low; }

struct WireSample {
  uint64_t id = 1;
  uint64_t ip = 0x401000;
  int32_t pid = 10;
  int32_t tid = 10;
  uint64_t time = 0;
  uint32_t cpu = 0;
  uint64_t period = 1;
  std::vector<uint64_t> chain;
  uint16_t misc = PERF_RECORD_MISC_USER;
};

// The format of the sample below.
inline RecordFormat WireSampleFormat() {
  return {.sample_type = PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP | PERF_SAMPLE_TID |
                         PERF_SAMPLE_TIME | PERF_SAMPLE_CPU | PERF_SAMPLE_PERIOD |
                         PERF_SAMPLE_CALLCHAIN,
          .sample_id_all = true};
}

inline Words Wire(const WireSample& sample) {
  Words words = {0,
                 sample.id,
                 sample.ip,
                 Pair(static_cast<uint32_t>(sample.pid), static_cast<uint32_t>(sample.tid)),
                 sample.time,
                 sample.cpu,
                 sample.period,
                 sample.chain.size()};
  words.insert(words.end(), sample.chain.begin(), sample.chain.end());
  words[0] = HeaderWord(PERF_RECORD_SAMPLE, sample.misc, words.size() * 8);
  return words;
}

// Any other record: its fields, then who wrote it and when.
inline Words WireOther(uint32_t type, uint16_t misc, const std::vector<uint64_t>& fields,
                       int32_t pid, int32_t tid, uint64_t time, uint32_t cpu = 0) {
  Words words = {0};
  words.insert(words.end(), fields.begin(), fields.end());
  words.push_back(Pair(static_cast<uint32_t>(pid), static_cast<uint32_t>(tid)));
  words.push_back(time);
  words.push_back(cpu);
  words.push_back(2);
  words[0] = HeaderWord(type, misc, words.size() * 8);
  return words;
}

inline Words WireComm(int32_t pid, int32_t tid, const char* name, uint64_t time,
                      bool exec = false) {
  RecordWriter writer;
  writer.Comm(pid, tid, name, exec);
  return WireOther(PERF_RECORD_COMM, exec ? PERF_RECORD_MISC_COMM_EXEC : 0,
                   {writer.words().begin() + 1, writer.words().end()}, pid, tid, time);
}

inline Words WireFork(int32_t pid, int32_t tid, int32_t parent_pid, int32_t parent_tid,
                      uint64_t time) {
  return WireOther(PERF_RECORD_FORK, 0,
                   {Pair(static_cast<uint32_t>(pid), static_cast<uint32_t>(parent_pid)),
                    Pair(static_cast<uint32_t>(tid), static_cast<uint32_t>(parent_tid)), time},
                   parent_pid, parent_tid, time);
}

inline Words WireLost(uint64_t count, uint64_t time) {
  return WireOther(PERF_RECORD_LOST, 0, {1, count}, 10, 10, time);
}

inline const perf_event_header* HeaderOf(const Words& words) {
  return reinterpret_cast<const perf_event_header*>(words.data());
}

}  // namespace lbrd::pmu

// Recordings built record by record, for tests.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>
#include <zstd.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "pmu/abi.h"
#include "pmu/perf_data_format.h"
#include "record_bytes.h"

namespace lbrd::pmu {

using ByteVector = std::vector<std::byte>;

inline void Append(ByteVector& to, const void* bytes, size_t size) {
  const auto* begin = static_cast<const std::byte*>(bytes);
  to.insert(to.end(), begin, begin + size);
}
inline void Append(ByteVector& to, const ByteVector& bytes) {
  Append(to, bytes.data(), bytes.size());
}
template <typename T>
void AppendScalar(ByteVector& to, T value) {
  Append(to, &value, sizeof(value));
}
// A string as header features have it.
inline void AppendString(ByteVector& to, absl::string_view text) {
  const uint32_t room = static_cast<uint32_t>((text.size() + 1 + 63) / 64 * 64);
  AppendScalar(to, room);
  Append(to, text.data(), text.size());
  to.resize(to.size() + room - text.size());
}
inline ByteVector StringFeature(absl::string_view text) {
  ByteVector bytes;
  AppendString(bytes, text);
  return bytes;
}

// The attr of the tests' events: samples of IDENTIFIER, IP, TID and TIME; trailers of TID, TIME and
// IDENTIFIER.
inline perf_event_attr TestAttr(uint64_t config = PERF_COUNT_SW_CPU_CLOCK) {
  perf_event_attr attr{};
  attr.type = PERF_TYPE_SOFTWARE;
  attr.size = sizeof(attr);
  attr.config = config;
  attr.sample_type = PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME;
  attr.sample_id_all = 1;
  return attr;
}
inline RecordBytes TestSample(uint64_t time, uint64_t ip, uint64_t id = 1) {
  RecordBytes record(PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER);
  record.U64(id).U64(ip).U32(7).U32(8).U64(time);
  return record;
}
inline RecordBytes& PutTestTrailer(RecordBytes& record, uint64_t time, uint64_t id = 1) {
  return record.U32(7).U32(8).U64(time).U64(id);
}
inline RecordBytes TestComm(uint64_t time, absl::string_view name) {
  RecordBytes record(PERF_RECORD_COMM, 0);
  PutTestTrailer(record.U32(7).U32(8).Text(name), time);
  return record;
}

struct PerfDataBytes {
  struct Event {
    perf_event_attr attr;
    std::vector<uint64_t> ids;
    size_t extra_attr_bytes = 0;  // of a kernel newer than we know
  };
  std::vector<Event> events = {{TestAttr(), {1}}};
  ByteVector data;
  std::vector<std::pair<uint32_t, ByteVector>> features;  // in the order of their numbers
  bool interrupted = false;

  void Add(const RecordBytes& record) { Append(data, record.bytes()); }
  void Add(uint32_t perf_type) { Add(RecordBytes(perf_type, 0)); }

  ByteVector File() const {
    ByteVector file;
    const size_t extra = events.empty() ? 0 : events[0].extra_attr_bytes;
    const uint64_t stride = sizeof(perf_event_attr) + extra + 16;
    uint64_t ids_at = kFileHeaderBytes;
    uint64_t ids_bytes = 0;
    for (const Event& event : events) ids_bytes += event.ids.size() * 8;
    const uint64_t attrs_at = ids_at + ids_bytes;
    const uint64_t data_at = attrs_at + stride * events.size();
    uint64_t bits[4] = {};
    for (const auto& [feature, bytes] : features) bits[feature / 64] |= uint64_t{1} << feature % 64;
    for (const uint64_t word :
         {kPerfMagic2, kFileHeaderBytes, stride, attrs_at, stride * events.size(), data_at,
          interrupted ? uint64_t{0} : uint64_t{data.size()}, uint64_t{0}, uint64_t{0}, bits[0],
          bits[1], bits[2], bits[3]}) {
      AppendScalar(file, word);
    }
    for (const Event& event : events) {
      for (const uint64_t id : event.ids) AppendScalar(file, id);
    }
    for (const Event& event : events) {
      perf_event_attr attr = event.attr;
      attr.size += static_cast<uint32_t>(extra);
      AppendScalar(file, attr);
      file.resize(file.size() + extra, std::byte{0xff});
      AppendScalar(file, ids_at);
      AppendScalar(file, uint64_t{event.ids.size() * 8});
      ids_at += event.ids.size() * 8;
    }
    Append(file, data);
    uint64_t at = file.size() + 16 * features.size();
    for (const auto& [feature, bytes] : features) {
      AppendScalar(file, at);
      AppendScalar(file, uint64_t{bytes.size()});
      at += bytes.size();
    }
    for (const auto& [feature, bytes] : features) Append(file, bytes);
    return file;
  }

  ByteVector Pipe() const {
    ByteVector file;
    AppendScalar(file, kPerfMagic2);
    AppendScalar(file, kPipeHeaderBytes);
    for (const Event& event : events) {
      RecordBytes record(kPerfHeaderAttr, 0);
      record.Put(event.attr);
      for (const uint64_t id : event.ids) record.U64(id);
      Append(file, record.bytes());
    }
    for (const auto& [feature, bytes] : features) {
      RecordBytes record(kPerfHeaderFeature, 0);
      record.U64(feature).Bytes(
          absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
      Append(file, record.bytes());
    }
    Append(file, data);
    return file;
  }
};

// Compresses as perf does: one stream, flushed piece by piece and never ended.
class PerfCompressor {
 public:
  explicit PerfCompressor() : context_(ZSTD_createCCtx()) {}
  ~PerfCompressor() { ZSTD_freeCCtx(context_); }

  RecordBytes Record(const ByteVector& piece, bool padded = false) {
    std::string compressed(ZSTD_compressBound(piece.size()) + 64, 0);
    ZSTD_inBuffer in{piece.data(), piece.size(), 0};
    ZSTD_outBuffer out{compressed.data(), compressed.size(), 0};
    EXPECT_EQ(ZSTD_compressStream2(context_, &out, &in, ZSTD_e_flush), 0u);
    compressed.resize(out.pos);
    RecordBytes record(padded ? kPerfCompressed2 : kPerfCompressed, 0);
    if (padded) record.U64(compressed.size());
    record.Bytes(compressed);
    while (padded && record.size() % 8 != 0) record.Put(std::byte{0xee});
    return record;
  }

 private:
  ZSTD_CCtx* context_;
};

inline std::string WriteTemporary(const ByteVector& bytes) {
  const std::string path = testing::TempDir() + "/lbrd-perf-data-" + std::to_string(getpid());
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  return path;
}

// What perf writes about a machine, of each kind that is read.
inline std::vector<std::pair<uint32_t, ByteVector>> TestFeatures() {
  ByteVector cpus;
  AppendScalar(cpus, uint32_t{16});
  AppendScalar(cpus, uint32_t{12});
  ByteVector command;
  AppendScalar(command, uint32_t{3});
  for (const char* word : {"perf", "record", "-b"}) AppendString(command, word);
  ByteVector events;
  AppendScalar(events, uint32_t{1});
  AppendScalar(events, uint32_t{sizeof(perf_event_attr)});
  AppendScalar(events, TestAttr());
  AppendScalar(events, uint32_t{1});
  AppendString(events, "my-event:u");
  AppendScalar(events, uint64_t{1});
  ByteVector caps;
  AppendScalar(caps, uint32_t{2});
  for (const char* word : {"branches", "32", "pmu_name", "skylake"}) AppendString(caps, word);
  return {{kFeatureHostname, StringFeature("box")},
          {kFeatureOsRelease, StringFeature("6.19")},
          {kFeatureVersion, StringFeature("6.1")},
          {kFeatureArch, StringFeature("x86_64")},
          {kFeatureNrCpus, cpus},
          {kFeatureCmdline, command},
          {kFeatureEventDesc, events},
          {kFeatureCpuPmuCaps, caps}};
}

}  // namespace lbrd::pmu

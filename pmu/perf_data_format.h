// The parts of perf.data that the kernel does not define: see
// tools/perf/Documentation/perf.data-file-format.txt and tools/lib/perf/include/perf/event.h.
#pragma once

#include <cstdint>

namespace lbrd::pmu {

// "PERFILE2" in the byte order of the machine that recorded.
inline constexpr uint64_t kPerfMagic2 = 0x32454c4946524550;
inline constexpr uint64_t kPerfMagic2Swapped = 0x50455246494c4532;
inline constexpr uint64_t kPerfMagic1 = 0x454c494646524550;  // "PERFFILE": before Linux 3.2

inline constexpr uint64_t kPipeHeaderBytes = 16;           // magic, size
inline constexpr uint64_t kFileHeaderBytes = 104;          // and four sections, and feature bits
inline constexpr uint64_t kFileHeaderNoFeatureBytes = 72;  // before there were features

// Types of records that perf writes itself; the kernel's own are below the first.
enum PerfRecordType : uint32_t {
  kPerfHeaderAttr = 64,
  kPerfTracingData = 66,  // in pipe mode its data follows the record
  kPerfHeaderBuildId = 67,
  kPerfFinishedRound = 68,
  kPerfAuxtrace = 71,  // its data follows the record
  kPerfEventUpdate = 78,
  kPerfHeaderFeature = 80,
  kPerfCompressed = 81,
  kPerfFinishedInit = 82,
  kPerfCompressed2 = 83,  // padded, with the size of what is not padding
};
inline constexpr uint32_t kFirstPerfRecordType = 64;

enum PerfFeature : uint32_t {
  kFeatureBuildId = 2,
  kFeatureHostname = 3,
  kFeatureOsRelease = 4,
  kFeatureVersion = 5,
  kFeatureArch = 6,
  kFeatureNrCpus = 7,
  kFeatureCmdline = 11,
  kFeatureEventDesc = 12,
  kFeatureDirFormat = 24,
  kFeatureCompressed = 27,
  kFeatureCpuPmuCaps = 28,
  kFeaturePmuCaps = 31,
};
inline constexpr uint32_t kFeatureBits = 256;

// PERF_RECORD_EVENT_UPDATE: what is updated.
inline constexpr uint64_t kEventUpdateName = 2;

// header.misc of build ID entries: byte 20 of the build ID's room says how long it is.
inline constexpr uint16_t kMiscBuildIdSize = 1 << 15;
// header.misc of PERF_RECORD_LOST_SAMPLES: a BPF filter dropped them, as it was told to.
inline constexpr uint16_t kMiscLostSamplesBpf = 1 << 15;

}  // namespace lbrd::pmu

#include "pmu/perf_data_features.h"

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "pmu/field_reader.h"
#include "pmu/perf_data_format.h"

namespace lbrd::pmu {
namespace {

// A build ID's room in its table; with kMiscBuildIdSize the byte behind the ID is its length.
constexpr size_t kBuildIdRoom = 24;
constexpr size_t kBuildIdBytes = 20;
// No LBR is deeper; a larger figure is nonsense.
constexpr uint32_t kMaxLbrDepth = 1024;
// Far more files than a recording names.
constexpr size_t kMaxBuildIds = 1 << 18;

// A length, then that many bytes, padded with NUL.
absl::string_view ReadString(FieldReader& in) {
  const uint32_t size = in.U32();
  return FieldReader(in.Bytes(size)).Text();
}

void ReadCommandLine(FieldReader& in, std::string* command_line) {
  command_line->clear();
  const uint32_t count = in.U32();
  for (uint32_t i = 0; i < count && in.ok(); ++i) {
    absl::StrAppend(command_line, i == 0 ? "" : " ", ReadString(in));
  }
}

void ReadEventNames(FieldReader& in, PerfDataEvents* events) {
  const uint32_t count = in.U32();
  const uint32_t attr_bytes = in.U32();
  for (uint32_t i = 0; i < count && in.ok(); ++i) {
    in.Bytes(attr_bytes);
    const uint32_t ids = in.U32();
    const absl::string_view name = ReadString(in);
    if (ids == 0) {
      if (in.ok()) events->NameByIndex(i, name);
      continue;
    }
    // The ids are all of one event; those of CPUs that came later may be unknown to it.
    for (uint32_t n = 0; n < ids && in.ok(); ++n) {
      const uint64_t id = in.U64();
      if (in.ok() && n == 0) events->NameById(id, name);
    }
  }
}

// Name and value of each of a PMU's capabilities.
void ReadPmuCapabilities(FieldReader& in, PerfDataInfo* info) {
  const uint32_t count = in.U32();
  for (uint32_t i = 0; i < count && in.ok(); ++i) {
    const absl::string_view name = ReadString(in);
    const absl::string_view value = ReadString(in);
    uint32_t depth;
    if (!in.ok() || name != "branches" || !absl::SimpleAtoi(value, &depth) || depth == 0 ||
        depth > kMaxLbrDepth) {
      continue;
    }
    // Should PMUs differ, the smallest depth never takes a full stack for a complete one.
    if (info->lbr_depth == 0 || depth < info->lbr_depth) info->lbr_depth = depth;
  }
}

// Each entry looks like a record.
bool ReadBuildIds(std::span<const std::byte> bytes, PerfDataInfo* info) {
  while (!bytes.empty()) {
    FieldReader in(bytes);
    in.U32();  // type: not always set
    const uint16_t misc = in.U16();
    const uint16_t size = in.U16();
    if (!in.ok() || size < sizeof(perf_event_header) || size > bytes.size()) return false;
    if (!ReadBuildId(misc, bytes.first(size).subspan(sizeof(perf_event_header)), info)) {
      return false;
    }
    bytes = bytes.subspan(size);
  }
  return true;
}

}  // namespace

bool WantsFeature(uint32_t feature) {
  switch (feature) {
    case kFeatureBuildId:
    case kFeatureHostname:
    case kFeatureOsRelease:
    case kFeatureVersion:
    case kFeatureArch:
    case kFeatureNrCpus:
    case kFeatureCmdline:
    case kFeatureEventDesc:
    case kFeatureCompressed:
    case kFeatureCpuPmuCaps:
    case kFeaturePmuCaps:
      return true;
    default:
      return false;
  }
}

bool ReadFeature(uint32_t feature, std::span<const std::byte> bytes, PerfDataInfo* info,
                 PerfDataEvents* events) {
  FieldReader in(bytes);
  switch (feature) {
    case kFeatureBuildId:
      return ReadBuildIds(bytes, info);
    case kFeatureHostname:
      info->hostname = std::string(ReadString(in));
      break;
    case kFeatureOsRelease:
      info->os_release = std::string(ReadString(in));
      break;
    case kFeatureVersion:
      info->perf_version = std::string(ReadString(in));
      break;
    case kFeatureArch:
      info->arch = std::string(ReadString(in));
      break;
    case kFeatureNrCpus:
      in.U32();  // CPUs available
      info->cpus_online = in.U32();
      break;
    case kFeatureCmdline:
      ReadCommandLine(in, &info->command_line);
      break;
    case kFeatureEventDesc:
      ReadEventNames(in, events);
      break;
    case kFeatureCompressed:
      info->compressed = true;
      break;
    case kFeatureCpuPmuCaps:
      ReadPmuCapabilities(in, info);
      break;
    case kFeaturePmuCaps: {
      const uint32_t pmus = in.U32();
      for (uint32_t i = 0; i < pmus && in.ok(); ++i) {
        ReadPmuCapabilities(in, info);
        ReadString(in);  // the PMU's name
      }
      break;
    }
    default:
      break;
  }
  return in.ok();
}

bool ReadBuildId(uint16_t misc, std::span<const std::byte> bytes, PerfDataInfo* info) {
  FieldReader in(bytes);
  in.S32();  // the machine: the host's is -1, a guest's its pid
  const std::span<const std::byte> room = in.Bytes(kBuildIdRoom);
  const absl::string_view path = in.Text();
  if (!in.ok()) return false;
  size_t size = kBuildIdBytes;
  if (misc & kMiscBuildIdSize) size = static_cast<size_t>(room[kBuildIdBytes]);
  if (size > kBuildIdBytes || info->build_ids.size() == kMaxBuildIds) return false;
  RecordedBuildId file;
  file.path = std::string(path);
  file.build_id =
      absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(room.data()), size));
  const uint16_t mode = misc & PERF_RECORD_MISC_CPUMODE_MASK;
  file.kernel = mode == PERF_RECORD_MISC_KERNEL || mode == PERF_RECORD_MISC_GUEST_KERNEL;
  info->build_ids.push_back(std::move(file));
  return true;
}

}  // namespace lbrd::pmu

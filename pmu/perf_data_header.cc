#include "pmu/perf_data_header.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "pmu/field_reader.h"
#include "pmu/perf_data_features.h"
#include "pmu/perf_data_format.h"

namespace lbrd::pmu {
namespace {

constexpr size_t kMaxNotes = 32;
// Of one event's description and of one feature. Real ones are a few hundred bytes and a few
// hundred KiB.
constexpr uint64_t kMaxAttrBytes = 4096;
constexpr uint64_t kMaxFeatureBytes = uint64_t{16} << 20;
constexpr uint64_t kMaxIdBytes = uint64_t{8} << 20;  // of all events

struct Section {
  uint64_t offset = 0;
  uint64_t size = 0;
  uint64_t end() const { return offset + size; }
};

Section ReadSection(FieldReader& in) {
  Section section;
  section.offset = in.U64();
  section.size = in.U64();
  return section;
}

struct FileHeader {
  uint64_t attr_stride = 0;
  Section attrs;
  Section data;
  std::array<uint64_t, kFeatureBits / 64> features{};
};

absl::Status NotARecording(const PerfDataInput& input) {
  return input.Error(absl::StatusCode::kInvalidArgument,
                     "is not a perf.data file (it does not begin with PERFILE2): give a file "
                     "written by 'perf record'");
}

absl::Status CutOff(const PerfDataInput& input) {
  return input.Error(absl::StatusCode::kInvalidArgument,
                     "is not a whole perf.data file: it ends within its header; copy or record it "
                     "again");
}

absl::Status Corrupt(const PerfDataInput& input, absl::string_view what) {
  return input.Error(absl::StatusCode::kInvalidArgument,
                     absl::StrCat("is not a valid perf.data file: ", what, "; record it again"));
}

// Fills all of `into` from the input's position.
absl::Status ReadFully(PerfDataInput& input, std::span<std::byte> into, bool* complete) {
  size_t done = 0;
  while (done < into.size()) {
    const absl::StatusOr<size_t> count = input.Read(into.subspan(done));
    if (!count.ok()) return count.status();
    if (*count == 0) break;
    done += *count;
  }
  *complete = done == into.size();
  if (done == 0) {
    return input.Error(absl::StatusCode::kInvalidArgument,
                       "is empty: give a file written by 'perf record'");
  }
  return absl::OkStatus();
}

absl::Status CheckMagic(const PerfDataInput& input, uint64_t magic) {
  if (magic == kPerfMagic2) return absl::OkStatus();
  if (magic == kPerfMagic2Swapped) {
    return input.Error(absl::StatusCode::kUnimplemented,
                       "was recorded on a machine of the other byte order, which this build does "
                       "not read: analyse it on such a machine");
  }
  if (magic == kPerfMagic1) {
    return input.Error(absl::StatusCode::kUnimplemented,
                       "has the format of perf before Linux 3.2: record it with a newer perf");
  }
  return NotARecording(input);
}

// The whole of [offset, offset + size), or fewer bytes where the file ends.
absl::StatusOr<std::vector<std::byte>> ReadBytes(PerfDataInput& input, Section section) {
  std::vector<std::byte> bytes(section.size);
  const absl::StatusOr<size_t> count = input.ReadAt(section.offset, bytes);
  if (!count.ok()) return count.status();
  bytes.resize(*count);
  return bytes;
}

bool Within(const PerfDataInput& input, Section section) {
  return section.offset <= input.size() && section.size <= input.size() - section.offset;
}

absl::StatusOr<FileHeader> ReadFileHeader(PerfDataInput& input, uint64_t size) {
  if (size != kFileHeaderNoFeatureBytes && size < kFileHeaderBytes) {
    return Corrupt(input, absl::StrCat("its header says that it has ", size, " bytes"));
  }
  const uint64_t wanted = std::min(size, kFileHeaderBytes);
  const absl::StatusOr<std::vector<std::byte>> bytes =
      ReadBytes(input, {.offset = 0, .size = wanted});
  if (!bytes.ok()) return bytes.status();
  if (bytes->size() < wanted) return CutOff(input);
  FieldReader in(*bytes);
  in.SkipWords(2);  // magic, size
  FileHeader header;
  header.attr_stride = in.U64();
  header.attrs = ReadSection(in);
  header.data = ReadSection(in);
  ReadSection(in);  // event types, which nobody writes any more
  if (size >= kFileHeaderBytes) {
    for (uint64_t& word : header.features) word = in.U64();
  }
  return header;
}

absl::Status ReadEvents(PerfDataInput& input, const FileHeader& header, PerfDataEvents* events) {
  const uint64_t stride = header.attr_stride;
  if (stride < PERF_ATTR_SIZE_VER0 + sizeof(Section) || stride > kMaxAttrBytes) {
    return Corrupt(input, absl::StrCat("its event descriptions have ", stride, " bytes each"));
  }
  if (!Within(input, header.attrs)) return CutOff(input);
  uint64_t id_bytes_left = kMaxIdBytes;
  for (uint64_t i = 0; i < header.attrs.size / stride; ++i) {
    const absl::StatusOr<std::vector<std::byte>> attr =
        ReadBytes(input, {.offset = header.attrs.offset + i * stride, .size = stride});
    if (!attr.ok()) return attr.status();
    if (attr->size() < stride) return CutOff(input);
    const std::span<const std::byte> bytes(*attr);
    FieldReader in(bytes.last(sizeof(Section)));
    const Section section = ReadSection(in);
    if (!Within(input, section)) return CutOff(input);
    if (section.size > id_bytes_left) return Corrupt(input, "it has too many event ids");
    id_bytes_left -= section.size;
    const absl::StatusOr<std::vector<std::byte>> ids = ReadBytes(input, section);
    if (!ids.ok()) return ids.status();
    const absl::Status added = events->Add(bytes.first(stride - sizeof(Section)), *ids);
    if (!added.ok()) return Corrupt(input, added.message());
  }
  return absl::OkStatus();
}

// Features stand behind the data, in the order of their numbers, found through a table of sections.
absl::Status ReadFeatures(PerfDataInput& input, const FileHeader& header, PerfDataInfo* info,
                          PerfDataEvents* events) {
  uint64_t entry = header.data.end();
  for (uint32_t feature = 0; feature < kFeatureBits; ++feature) {
    if (((header.features[feature / 64] >> (feature % 64)) & 1) == 0) continue;
    const Section at{.offset = entry, .size = sizeof(Section)};
    entry += sizeof(Section);
    if (feature == kFeatureDirFormat) {
      return input.Error(absl::StatusCode::kUnimplemented,
                         "is part of a directory recording ('perf record --threads'), which cannot "
                         "be read: record without it");
    }
    if (!WantsFeature(feature)) continue;
    if (!Within(input, at)) {
      AddNote("the file ends before its description of the machine: names may be missing", info);
      break;
    }
    const absl::StatusOr<std::vector<std::byte>> table = ReadBytes(input, at);
    if (!table.ok()) return table.status();
    FieldReader in(*table);
    const Section section = ReadSection(in);
    absl::StatusOr<std::vector<std::byte>> bytes = std::vector<std::byte>();
    if (Within(input, section) && section.size <= kMaxFeatureBytes) {
      bytes = ReadBytes(input, section);
      if (!bytes.ok()) return bytes.status();
    }
    if (!ReadFeature(feature, *bytes, info, events)) NoteMalformedFeature(feature, info);
  }
  return absl::OkStatus();
}

}  // namespace

void AddNote(std::string note, PerfDataInfo* info) {
  if (info->notes.size() >= kMaxNotes) return;
  if (std::find(info->notes.begin(), info->notes.end(), note) == info->notes.end()) {
    info->notes.push_back(std::move(note));
  }
}

void NoteMalformedFeature(uint32_t feature, PerfDataInfo* info) {
  AddNote(absl::StrCat("header feature ", feature, " is malformed and was not read in full"), info);
}

absl::StatusOr<PerfDataRange> ReadPerfDataHeader(PerfDataInput& input, PerfDataInfo* info,
                                                 PerfDataEvents* events) {
  std::array<std::byte, kPipeHeaderBytes> start{};
  bool complete = false;
  absl::Status status = ReadFully(input, start, &complete);
  if (!status.ok()) return status;
  FieldReader in(start);
  const uint64_t magic = in.U64();
  const uint64_t size = in.U64();
  // A file too short for a header is judged by what it begins with.
  status = CheckMagic(input, magic);
  if (!status.ok()) return status;
  if (!complete) return CutOff(input);
  PerfDataRange range;
  if (size == kPipeHeaderBytes) {
    info->pipe_mode = true;
    range.begin = kPipeHeaderBytes;
    return range;
  }
  if (!input.seekable()) {
    return input.Error(absl::StatusCode::kInvalidArgument,
                       "carries a recording in file format, which cannot be read from a pipe: give "
                       "the file's path, or record with 'perf record -o -'");
  }
  const absl::StatusOr<FileHeader> header = ReadFileHeader(input, size);
  if (!header.ok()) return header.status();
  status = ReadEvents(input, *header, events);
  if (!status.ok()) return status;
  if (header->data.offset > input.size() || header->data.size > UINT64_MAX - header->data.offset) {
    return CutOff(input);
  }
  range.begin = header->data.offset;
  if (header->data.size == 0) {
    // perf fills the size in when it ends, and writes the features then.
    range.interrupted = true;
    AddNote(
        "perf was killed while it recorded: the recording may lack its end, and it does not "
        "describe its machine",
        info);
  } else {
    range.end = header->data.end();
    status = ReadFeatures(input, *header, info, events);
    if (!status.ok()) return status;
  }
  input.Seek(range.begin);
  return range;
}

}  // namespace lbrd::pmu

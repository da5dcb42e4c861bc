#include "client/pprof.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_split.h"
#include "client/enum_names.h"
#include "client/figures.h"
#include "client/summary.h"
#include "client/utf8.h"
#include "google/protobuf/io/gzip_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "pprof/profile.pb.h"

namespace lbrd::client {
namespace {

namespace pb = perftools::profiles;

// pprof prints each comment as a line above its reports.
constexpr size_t kCommentCells = 100;

// pprof scales these by itself; any other unit it shows as a plain count.
absl::string_view PprofUnit(absl::string_view unit) {
  if (unit == "ns") return "nanoseconds";
  if (unit == "bytes") return "bytes";
  return "count";
}

// Of the event's unit between two samples; 0: the kernel adapts it.
int64_t Period(const v1::SessionEvent& event) {
  constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
  if (event.period() != 0) return static_cast<int64_t>(std::min(event.period(), kMax));
  if (event.unit() == "ns" && event.frequency_hz() != 0) {
    return 1'000'000'000 / static_cast<int64_t>(event.frequency_hz());
  }
  return 0;
}

class PprofBuilder {
 public:
  explicit PprofBuilder(const ProfileIndex& index) : index_(index) { String(""); }

  pb::Profile Build() {
    AddTypes();
    AddMappings();
    AddSamples();
    const v1::Session& session = index_.session();
    if (session.has_create_time() && session.create_time().seconds() > 0) {
      google::protobuf::Duration since_epoch;
      since_epoch.set_seconds(session.create_time().seconds());
      since_epoch.set_nanos(session.create_time().nanos());
      out_.set_time_nanos(DurationNanos(since_epoch));
    }
    out_.set_duration_nanos(DurationNanos(session.running_time()));
    const std::string summary = RenderSummary(session, kCommentCells);
    for (const absl::string_view line : absl::StrSplit(summary, '\n')) {
      out_.add_comment(String(line));
    }
    return std::move(out_);
  }

 private:
  int64_t String(absl::string_view text) {
    std::string printable = PrintableText(text);
    const auto [at, fresh] = strings_.try_emplace(printable, out_.string_table_size());
    if (fresh) out_.add_string_table(std::move(printable));
    return at->second;
  }

  void AddType(absl::string_view type, absl::string_view unit) {
    pb::ValueType* value = out_.add_sample_type();
    value->set_type(String(type));
    value->set_unit(String(unit));
  }

  void AddTypes() {
    AddType("samples", "count");
    for (uint32_t event = 0; event < index_.event_count(); ++event) {
      const bool described = event < static_cast<uint32_t>(index_.session().events_size());
      const absl::string_view unit =
          described ? absl::string_view(index_.session().events(static_cast<int>(event)).unit())
                    : absl::string_view();
      AddType(index_.EventName(event), PprofUnit(unit));
    }
    *out_.mutable_period_type() = out_.sample_type(1);
    out_.set_default_sample_type(out_.sample_type(1).type());
    if (index_.session().events_size() > 0) out_.set_period(Period(index_.session().events(0)));
  }

  void AddMappings() {
    std::vector<const v1::Binary*> binaries;
    for (const v1::Binary& binary : index_.profile().definitions().binaries()) {
      binaries.push_back(&binary);
    }
    // pprof calls the first one the main binary: better a file than the kernel or the vdso.
    std::sort(binaries.begin(), binaries.end(), [](const v1::Binary* a, const v1::Binary* b) {
      const auto key = [](const v1::Binary* binary) {
        return std::pair(binary->path().empty() || binary->path()[0] == '[', binary->id());
      };
      return key(a) < key(b);
    });
    for (const v1::Binary* binary : binaries) {
      pb::Mapping* mapping = out_.add_mapping();
      mapping->set_id(binary->id());
      mapping->set_filename(String(binary->path()));
      mapping->set_build_id(String(binary->build_id()));
      // Every frame gets a function; without this pprof would look for names itself.
      mapping->set_has_functions(true);
    }
  }

  uint64_t FunctionId(const FrameCall& call) {
    const auto [at, fresh] =
        functions_.try_emplace(std::pair(call.label, call.file), functions_.size() + 1);
    if (fresh) {
      pb::Function* function = out_.add_function();
      function->set_id(at->second);
      // No system_name: where it equals the name, pprof demangles it once more and so takes
      // "(anonymous namespace)::" and template arguments away.
      function->set_name(String(call.label));
      function->set_filename(String(call.file));
    }
    return at->second;
  }

  uint64_t LocationId(uint32_t frame_id) {
    const auto [at, fresh] = locations_.try_emplace(frame_id, locations_.size() + 1);
    if (fresh) {
      const v1::Frame& frame = index_.frame(frame_id);
      pb::Location* location = out_.add_location();
      location->set_id(at->second);
      location->set_mapping_id(frame.binary_id());
      location->set_address(frame.ip());
      for (const FrameCall& call : index_.Calls(frame)) {
        pb::Line* line = location->add_line();
        line->set_function_id(FunctionId(call));
        line->set_line(call.line);
      }
    }
    return at->second;
  }

  void AddLabel(pb::Sample& sample, absl::string_view key, absl::string_view text) {
    pb::Label* label = sample.add_label();
    label->set_key(String(key));
    label->set_str(String(text));
  }

  void AddLabel(pb::Sample& sample, absl::string_view key, int64_t number) {
    pb::Label* label = sample.add_label();
    label->set_key(String(key));
    label->set_num(number);
  }

  void AddSamples() {
    // Values by stack and thread, in the order of the sample types.
    absl::btree_map<std::pair<uint64_t, uint32_t>, std::vector<int64_t>> samples;
    for (const v1::ProfileEntry& entry : index_.profile().entries()) {
      std::vector<int64_t>& values = samples[{entry.stack_id(), entry.thread_id()}];
      values.resize(1 + index_.event_count());
      values[0] += static_cast<int64_t>(entry.samples());
      values[1 + entry.event()] += static_cast<int64_t>(entry.weight());
    }
    for (const auto& [key, values] : samples) {
      const v1::Stack& stack = index_.stack(key.first);
      const v1::Thread& thread = index_.thread(key.second);
      pb::Sample& sample = *out_.add_sample();
      for (const uint32_t frame_id : stack.frame_ids()) {
        sample.add_location_id(LocationId(frame_id));
      }
      sample.mutable_value()->Add(values.begin(), values.end());
      AddLabel(sample, "thread", thread.comm());
      AddLabel(sample, "comm", ProcessName(thread));
      AddLabel(sample, "pid", thread.pid());
      AddLabel(sample, "tid", thread.tid());
      AddLabel(sample, "stack", VerdictText(stack.verdict()));
    }
  }

  const ProfileIndex& index_;
  pb::Profile out_;
  absl::flat_hash_map<std::string, int64_t> strings_;
  // By name and file.
  absl::flat_hash_map<std::pair<std::string, absl::string_view>, uint64_t> functions_;
  absl::flat_hash_map<uint32_t, uint64_t> locations_;  // by frame id
};

}  // namespace

absl::StatusOr<std::string> EncodePprof(const ProfileIndex& index) {
  const pb::Profile profile = PprofBuilder(index).Build();
  if (profile.ByteSizeLong() > static_cast<size_t>(std::numeric_limits<int>::max())) {
    return absl::ResourceExhaustedError(
        "the profile is too large for pprof's format (2 GiB); record for a shorter time");
  }
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream sink(&bytes);
    google::protobuf::io::GzipOutputStream gzip(&sink);
    if (!profile.SerializeToZeroCopyStream(&gzip) || !gzip.Close()) {
      return absl::InternalError("pprof: the profile could not be compressed");
    }
  }
  return bytes;
}

}  // namespace lbrd::client

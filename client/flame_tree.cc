#include "client/flame_tree.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/node_hash_map.h"
#include "absl/strings/str_cat.h"
#include "client/enum_names.h"
#include "client/figures.h"
#include "client/utf8.h"

namespace lbrd::client {
namespace {

// What makes two nodes under one parent the same. Sorts by name first.
enum class Layer : uint8_t { kProcess, kIncomplete, kUser, kKernel };
using NameKey = std::pair<std::string, Layer>;

FlameKind KindOf(v1::FrameSource source) {
  switch (source) {
    case v1::FRAME_SOURCE_KERNEL:
      return FlameKind::kKernel;
    case v1::FRAME_SOURCE_SAMPLED_IP:
      return FlameKind::kSampledIp;
    case v1::FRAME_SOURCE_LBR:
    case v1::FRAME_SOURCE_STITCHED:
      return FlameKind::kLbr;
    case v1::FRAME_SOURCE_KERNEL_DEFERRED:
      return FlameKind::kKernelDeferred;
    case v1::FRAME_SOURCE_DWARF:
      return FlameKind::kDwarf;
    case v1::FRAME_SOURCE_FRAME_POINTER:
      return FlameKind::kFramePointer;
    case v1::FRAME_SOURCE_GUESS:
      return FlameKind::kGuess;
    default:
      return FlameKind::kOtherSource;
  }
}

constexpr size_t kKinds = static_cast<size_t>(FlameKind::kOtherSource) + 1;
// Binaries remembered for one node.
constexpr size_t kMaxBinaries = 8;

struct Merged {
  uint32_t name = 0;
  uint64_t value = 0;
  uint64_t samples = 0;
  std::array<uint64_t, kKinds> by_kind = {};
  std::set<absl::string_view> binaries;
  std::vector<uint32_t> children;
};

class Merger {
 public:
  explicit Merger(const ProfileIndex& index) : index_(index) { merged_.emplace_back(); }

  void Add(const v1::ProfileEntry& entry, FlameTree& tree) {
    const v1::Stack& stack = index_.stack(entry.stack_id());
    const v1::Thread& thread = index_.thread(entry.thread_id());
    const uint64_t value = index_.Value(entry);
    const uint64_t samples = entry.samples();
    tree.samples += samples;
    Count(0, FlameKind::kAll, value, samples);

    const uint32_t process = NameId(PrintableText(ProcessName(thread)), Layer::kProcess);
    processes_[process].insert(thread.pid());
    uint32_t at = Descend(0, process);
    Count(at, FlameKind::kProcess, value, samples);

    if (IsWhole(stack.verdict())) {
      tree.complete_samples += samples;
    } else {
      const std::string text = absl::StrCat("[", VerdictText(stack.verdict()), "]");
      at = Descend(at, NameId(PrintableText(text), Layer::kIncomplete));
      Count(at, FlameKind::kIncomplete, value, samples);
    }

    const int frames = stack.frame_ids_size();
    const int youngest = std::max(0, frames - static_cast<int>(FlameTree::kMaxDepth));
    if (youngest != 0) tree.too_deep_samples += samples;
    for (int i = frames - 1; i >= youngest; --i) {
      const v1::Frame& frame = index_.frame(stack.frame_ids(i));
      at = Descend(at, FrameNameId(frame));
      Count(at, KindOf(frame.source()), value, samples);
      AddBinary(at, frame);
    }
  }

  // Lays the nodes out breadth first, so that children stand together.
  std::vector<FlameNode> Take() {
    std::vector<FlameNode> nodes;
    nodes.reserve(merged_.size());
    std::vector<uint32_t> order = {0};
    for (size_t i = 0; i < order.size(); ++i) {
      Merged& merged = merged_[order[i]];
      std::sort(merged.children.begin(), merged.children.end(), [&](uint32_t a, uint32_t b) {
        return *names_[merged_[a].name] < *names_[merged_[b].name];
      });
      FlameNode& node = nodes.emplace_back();
      node.label = order[i] == 0 ? "all" : Label(merged.name);
      node.binaries = Binaries(merged);
      node.kind = static_cast<FlameKind>(std::distance(
          merged.by_kind.begin(), std::max_element(merged.by_kind.begin(), merged.by_kind.end())));
      node.value = merged.value;
      node.samples = merged.samples;
      node.first_child = static_cast<uint32_t>(order.size());
      node.children = static_cast<uint32_t>(merged.children.size());
      order.insert(order.end(), merged.children.begin(), merged.children.end());
    }
    return nodes;
  }

 private:
  uint32_t NameId(std::string name, Layer layer) {
    const auto [at, fresh] = name_ids_.try_emplace(NameKey(std::move(name), layer),
                                                   static_cast<uint32_t>(names_.size()));
    if (fresh) names_.push_back(&at->first);
    return at->second;
  }

  uint32_t FrameNameId(const v1::Frame& frame) {
    const auto [at, fresh] = frame_names_.try_emplace(frame.id(), 0);
    if (fresh) {
      const bool kernel = frame.source() == v1::FRAME_SOURCE_KERNEL;
      at->second =
          NameId(PrintableText(index_.FrameLabel(frame)), kernel ? Layer::kKernel : Layer::kUser);
    }
    return at->second;
  }

  uint32_t Descend(uint32_t parent, uint32_t name) {
    const auto [at, fresh] =
        children_.try_emplace(std::pair(parent, name), static_cast<uint32_t>(merged_.size()));
    if (fresh) {
      merged_[parent].children.push_back(at->second);
      merged_.emplace_back().name = name;
    }
    return at->second;
  }

  void Count(uint32_t node, FlameKind kind, uint64_t value, uint64_t samples) {
    merged_[node].value += value;
    merged_[node].samples += samples;
    merged_[node].by_kind[static_cast<size_t>(kind)] += value;
  }

  void AddBinary(uint32_t node, const v1::Frame& frame) {
    const v1::Binary* binary = index_.binary(frame.binary_id());
    if (binary == nullptr) return;
    std::set<absl::string_view>& binaries = merged_[node].binaries;
    binaries.insert(BinaryBasename(*binary));
    // The greatest goes, so that what is kept does not depend on the order of entries.
    if (binaries.size() > kMaxBinaries) binaries.erase(std::prev(binaries.end()));
  }

  std::string Label(uint32_t name) const {
    const auto process = processes_.find(name);
    if (process == processes_.end()) return names_[name]->first;
    const std::set<int32_t>& pids = process->second;
    if (pids.size() == 1) return absl::StrCat(names_[name]->first, " (", *pids.begin(), ")");
    return absl::StrCat(names_[name]->first, " (", FormatCount(pids.size()), " processes)");
  }

  static std::string Binaries(const Merged& merged) {
    if (merged.binaries.empty()) return "";
    std::string text = PrintableText(*merged.binaries.begin());
    if (merged.binaries.size() > 1) {
      absl::StrAppend(&text, " and ", merged.binaries.size() >= kMaxBinaries ? "at least " : "",
                      merged.binaries.size() - 1, " more");
    }
    return text;
  }

  const ProfileIndex& index_;
  std::vector<Merged> merged_;                                             // the root first
  absl::flat_hash_map<std::pair<uint32_t, uint32_t>, uint32_t> children_;  // by parent and name
  // Nodes of a map stay where they are, unlike those of a flat one; names_ points to the keys.
  absl::node_hash_map<NameKey, uint32_t> name_ids_;
  std::vector<const NameKey*> names_;
  absl::flat_hash_map<uint32_t, uint32_t> frame_names_;         // by frame id
  absl::flat_hash_map<uint32_t, std::set<int32_t>> processes_;  // pids by name
};

}  // namespace

absl::StatusOr<FlameTree> BuildFlameTree(const ProfileIndex& index, uint32_t event) {
  if (absl::Status status = index.CheckEventHasSamples(event); !status.ok()) return status;
  FlameTree tree;
  Merger merger(index);
  for (const v1::ProfileEntry& entry : index.profile().entries()) {
    if (entry.event() == event) merger.Add(entry, tree);
  }
  tree.nodes = merger.Take();
  return tree;
}

}  // namespace lbrd::client

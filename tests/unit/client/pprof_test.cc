#include "client/pprof.h"

#include <zlib.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/client/profile_builder.h"

namespace lbrd::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A reader of the format that shares nothing with the writer: the field numbers below are those of
// pprof's own documentation.

std::string Gunzip(const std::string& bytes) {
  z_stream stream = {};
  EXPECT_EQ(inflateInit2(&stream, 16 + MAX_WBITS), Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  std::string out;
  int result = Z_OK;
  while (result == Z_OK) {
    char block[4096];
    stream.next_out = reinterpret_cast<Bytef*>(block);
    stream.avail_out = sizeof(block);
    result = inflate(&stream, Z_NO_FLUSH);
    out.append(block, sizeof(block) - stream.avail_out);
  }
  EXPECT_EQ(result, Z_STREAM_END);
  EXPECT_EQ(stream.avail_in, 0u);
  inflateEnd(&stream);
  return out;
}

// One message's fields; packed numbers are read with Packed().
class Wire {
 public:
  explicit Wire(const std::string& bytes) {
    size_t at = 0;
    while (at < bytes.size()) {
      const uint64_t key = Varint(bytes, at);
      if ((key & 7) == 0) {
        numbers_[key >> 3].push_back(Varint(bytes, at));
      } else if ((key & 7) == 2) {
        const uint64_t size = Varint(bytes, at);
        EXPECT_LE(size, bytes.size() - at);
        texts_[key >> 3].push_back(bytes.substr(at, size));
        at += size;
      } else {
        ADD_FAILURE() << "wire type " << (key & 7);
        return;
      }
    }
  }

  uint64_t Number(uint64_t field) const {
    const auto at = numbers_.find(field);
    return at == numbers_.end() ? 0 : at->second.back();
  }
  std::vector<std::string> Texts(uint64_t field) const {
    const auto at = texts_.find(field);
    return at == texts_.end() ? std::vector<std::string>() : at->second;
  }
  std::vector<Wire> Messages(uint64_t field) const {
    std::vector<Wire> messages;
    for (const std::string& text : Texts(field)) messages.emplace_back(text);
    return messages;
  }
  std::vector<uint64_t> Packed(uint64_t field) const {
    std::vector<uint64_t> values;
    for (const std::string& text : Texts(field)) {
      size_t at = 0;
      while (at < text.size()) values.push_back(Varint(text, at));
    }
    return values;
  }

 private:
  static uint64_t Varint(const std::string& bytes, size_t& at) {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at >= bytes.size()) {
        ADD_FAILURE() << "varint cut off";
        return 0;
      }
      const auto byte = static_cast<uint8_t>(bytes[at++]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    ADD_FAILURE() << "varint too long";
    return 0;
  }

  std::map<uint64_t, std::vector<uint64_t>> numbers_;
  std::map<uint64_t, std::vector<std::string>> texts_;
};

struct Decoded {
  explicit Decoded(const std::string& gzipped)
      : profile(Gunzip(gzipped)), strings(profile.Texts(6)) {}
  const std::string& String(uint64_t index) const { return strings.at(index); }
  // "type/unit".
  std::string Type(const Wire& value_type) const {
    return String(value_type.Number(1)) + "/" + String(value_type.Number(2));
  }
  // The functions of a sample, leaf first, by way of its locations.
  std::vector<std::string> Functions(const Wire& sample) const {
    std::vector<std::string> names;
    for (const uint64_t id : sample.Packed(1)) {
      for (const Wire& location : profile.Messages(4)) {
        if (location.Number(1) != id) continue;
        for (const Wire& function : profile.Messages(5)) {
          if (function.Number(1) == location.Messages(4).at(0).Number(1)) {
            names.push_back(String(function.Number(2)));
          }
        }
      }
    }
    return names;
  }
  std::map<std::string, std::string> Labels(const Wire& sample) const {
    std::map<std::string, std::string> labels;
    for (const Wire& label : sample.Messages(3)) {
      labels[String(label.Number(1))] =
          label.Number(2) != 0 ? String(label.Number(2)) : std::to_string(label.Number(3));
    }
    return labels;
  }

  Wire profile;
  std::vector<std::string> strings;
};

struct TwoEvents : ProfileBuilder {
  uint32_t kernel = Binary("[kernel.kallsyms]");
  uint32_t server = Binary("/opt/server", "ab12");
  TwoEvents() {
    AddEvent("cycles", "cycles", 0);
    session.mutable_create_time()->set_seconds(1'700'000'000);
    session.mutable_create_time()->set_nanos(7);
    session.mutable_running_time()->set_seconds(2);
    const uint32_t leaf = Frame("do_syscall_64", kernel, v1::FRAME_SOURCE_KERNEL);
    const uint32_t nameless = Frame("", server);
    const uint32_t root = Frame("main<\xFF>", server);
    const uint64_t whole = Stack({leaf, nameless, root});
    const uint64_t cut = Stack({nameless}, "no_unwind_info");
    const uint32_t thread = Thread(10, 11, "worker", "server");
    Entry(whole, thread, 3);
    Entry(whole, thread, 500, 1);
    Entry(cut, thread, 2);
  }

  Decoded Encode() {
    const auto index = ProfileIndex::Build(profile, session);
    EXPECT_TRUE(index.ok()) << index.status();
    return Decoded(EncodePprof(*index).value());
  }
};

TEST(Pprof, HoldsEverySample) {
  const Decoded d = TwoEvents().Encode();
  std::vector<std::string> types;
  for (const Wire& type : d.profile.Messages(1)) types.push_back(d.Type(type));
  EXPECT_THAT(types, ElementsAre("samples/count", "cpu-clock/nanoseconds", "cycles/count"));
  const std::vector<Wire> samples = d.profile.Messages(2);
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_THAT(samples[0].Packed(2), ElementsAre(503, 3'000'000, 500));
  EXPECT_THAT(samples[1].Packed(2), ElementsAre(2, 2'000'000, 0));
  EXPECT_THAT(d.Functions(samples[0]),
              ElementsAre("do_syscall_64", "[unknown in server]", "main<\xEF\xBF\xBD>"));
  EXPECT_THAT(d.Functions(samples[1]), ElementsAre("[unknown in server]"));
}

TEST(Pprof, LabelsSamples) {
  const Decoded d = TwoEvents().Encode();
  const std::vector<Wire> samples = d.profile.Messages(2);
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(d.Labels(samples[0]), (std::map<std::string, std::string>{{"thread", "worker"},
                                                                      {"comm", "server"},
                                                                      {"pid", "10"},
                                                                      {"tid", "11"},
                                                                      {"stack", "complete"}}));
  EXPECT_EQ(d.Labels(samples[1])["stack"], "truncated: no_unwind_info");
}

TEST(Pprof, DescribesBinariesAndAddresses) {
  const Decoded d = TwoEvents().Encode();
  const std::vector<Wire> mappings = d.profile.Messages(3);
  ASSERT_EQ(mappings.size(), 2u);
  // A file comes before the kernel.
  EXPECT_EQ(d.String(mappings[0].Number(5)), "/opt/server");
  EXPECT_EQ(d.String(mappings[0].Number(6)), "ab12");
  EXPECT_EQ(mappings[0].Number(7), 1u);
  EXPECT_EQ(d.String(mappings[1].Number(5)), "[kernel.kallsyms]");
  const std::vector<Wire> locations = d.profile.Messages(4);
  ASSERT_EQ(locations.size(), 3u);
  EXPECT_EQ(locations[0].Number(2), mappings[1].Number(1));
  EXPECT_EQ(locations[0].Number(3), 0xffffffff81000010u);
  EXPECT_EQ(locations[1].Number(2), mappings[0].Number(1));
}

TEST(Pprof, AnInlinedFunctionIsALineOfItsLocation) {
  ProfileBuilder p;
  const uint32_t frame = p.Frame("f", p.Binary("/bin/x"));
  v1::Frame* f = p.profile.mutable_definitions()->mutable_frames(0);
  f->set_file("f.cc");
  f->set_line(30);
  v1::InlinedCall* g = f->add_inlined();
  g->set_function("g");
  g->set_file("g.h");
  g->set_line(20);
  p.Entry(p.Stack({frame}), p.Thread(1, 1, "x", "x"), 1);
  const Wire profile(
      Gunzip(EncodePprof(ProfileIndex::Build(p.profile, p.session).value()).value()));
  const std::vector<std::string> strings = profile.Texts(6);
  const std::vector<Wire> locations = profile.Messages(4);
  ASSERT_EQ(locations.size(), 1u);
  std::vector<std::string> lines;  // innermost first
  for (const Wire& line : locations[0].Messages(4)) {
    for (const Wire& function : profile.Messages(5)) {
      if (function.Number(1) != line.Number(1)) continue;
      lines.push_back(strings[function.Number(2)] + " " + strings[function.Number(4)] + ":" +
                      std::to_string(line.Number(2)));
    }
  }
  EXPECT_THAT(lines, ElementsAre("g g.h:20", "f f.cc:30"));
}

TEST(Pprof, DescribesTheSession) {
  const Decoded d = TwoEvents().Encode();
  EXPECT_EQ(d.strings[0], "");
  EXPECT_EQ(d.profile.Number(9), 1'700'000'000'000'000'007u);
  EXPECT_EQ(d.profile.Number(10), 2'000'000'000u);
  EXPECT_EQ(d.Type(d.profile.Messages(11).at(0)), "cpu-clock/nanoseconds");
  EXPECT_EQ(d.profile.Number(12), 1'000'000u);
  EXPECT_EQ(d.String(d.profile.Number(14)), "cpu-clock");
  std::string comments;
  for (const uint64_t comment : d.profile.Packed(13)) comments += d.String(comment) + " ";
  EXPECT_THAT(comments, HasSubstr("test-1: 0 samples of cpu-clock and cycles in 2.0 s."));
}

TEST(Pprof, DerivesThePeriodFromTheRateOnlyOfClocks) {
  TwoEvents clock;
  clock.session.mutable_events(0)->set_period(0);
  clock.session.mutable_events(0)->set_frequency_hz(100);
  EXPECT_EQ(clock.Encode().profile.Number(12), 10'000'000u);
  clock.session.mutable_events(0)->set_unit("cycles");
  EXPECT_EQ(clock.Encode().profile.Number(12), 0u);
}

TEST(Pprof, GivesTheSameBytesForTheSameProfile) {
  TwoEvents p;
  const auto index = ProfileIndex::Build(p.profile, p.session);
  ASSERT_TRUE(index.ok());
  EXPECT_EQ(EncodePprof(*index).value(), EncodePprof(*index).value());
}

TEST(Pprof, TakesAnEmptyProfile) {
  ProfileBuilder p;
  const auto index = ProfileIndex::Build(p.profile, p.session);
  ASSERT_TRUE(index.ok());
  const Decoded d(EncodePprof(*index).value());
  EXPECT_TRUE(d.profile.Messages(2).empty());
  EXPECT_EQ(d.profile.Messages(1).size(), 2u);
}

}  // namespace
}  // namespace lbrd::client

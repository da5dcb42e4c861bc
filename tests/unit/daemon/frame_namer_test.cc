#include "daemon/frame_namer.h"

#include <gtest/gtest.h>
#include <link.h>

#include <filesystem>
#include <string>

#include "daemon/file_bytes.h"
#include "unwind/elf_file.h"

// Known by its name, and not inlined into anything.
extern "C" __attribute__((noinline)) int frame_namer_test_function(int x) { return x * 3 + 1; }

namespace lbrd::daemon {
namespace {

// This program, and nothing else; by its build ID.
class OwnProgram : public unwind::FileSource {
 public:
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> Open(
      int32_t, const unwind::FileIdentity& file) override {
    if (file.build_id != build_id()) return absl::NotFoundError("it is not here");
    return Bytes();
  }
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> OpenDebug(int32_t,
                                                                      const std::string&) override {
    return absl::NotFoundError("none");
  }
  static std::shared_ptr<const unwind::ByteSource> Bytes() {
    const std::string path = std::filesystem::read_symlink("/proc/self/exe");
    return *FileBytes(*OpenRegular(path), path);
  }
  static std::string build_id() { return unwind::ElfFile::Parse(Bytes())->build_id(); }
};

// In the program's own terms.
uint64_t FunctionAddress() {
  uint64_t base = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        *static_cast<uint64_t*>(out) = info->dlpi_addr;
        return 1;  // the program is the first
      },
      &base);
  return reinterpret_cast<uint64_t>(&frame_namer_test_function) - base;
}

class FrameNamerTest : public ::testing::Test {
 protected:
  FrameNamerTest() {
    AddBinary(1, "/anywhere/at/all", OwnProgram::build_id());
    AddBinary(2, "/gone", "00112233");
    AddBinary(3, "/without/build-id", "");
    AddBinary(4, "[vdso]", OwnProgram::build_id());
  }
  void AddBinary(uint32_t id, const std::string& path, const std::string& build_id) {
    v1::Binary* binary = definitions_.add_binaries();
    binary->set_id(id);
    binary->set_path(path);
    binary->set_build_id(build_id);
    binary->set_symbols_missing("stripped");
  }
  int AddFrame(uint32_t binary, uint64_t offset, v1::FrameSource source) {
    v1::Frame* frame = definitions_.add_frames();
    frame->set_binary_id(binary);
    frame->set_offset(offset);
    frame->set_source(source);
    return definitions_.frames_size() - 1;
  }
  void NameAll() { NameFrames(&files_, {}, &definitions_); }

  OwnProgram files_;
  v1::Definitions definitions_;
};

TEST_F(FrameNamerTest, NamesByBuildIdAndAddress) {
  const uint64_t start = FunctionAddress();
  const int leaf = AddFrame(1, start, v1::FRAME_SOURCE_SAMPLED_IP);
  const int caller = AddFrame(1, start + 2, v1::FRAME_SOURCE_DWARF);
  NameAll();
  EXPECT_EQ(definitions_.frames(leaf).symbol(), "frame_namer_test_function");
  EXPECT_EQ(definitions_.frames(leaf).offset(), 0u);
  EXPECT_EQ(definitions_.frames(caller).symbol(), "frame_namer_test_function");
  EXPECT_EQ(definitions_.frames(caller).offset(), 2u);
  EXPECT_EQ(definitions_.binaries(0).symbols_missing(), "");
}

TEST_F(FrameNamerTest, AReturnAddressBehindAFunctionsEndIsThatFunctions) {
  const int caller = AddFrame(1, FunctionAddress(), v1::FRAME_SOURCE_FRAME_POINTER);
  NameAll();
  EXPECT_NE(definitions_.frames(caller).symbol(), "frame_namer_test_function");
}

TEST_F(FrameNamerTest, WhatIsNotFoundStaysAsItIs) {
  const uint64_t start = FunctionAddress();
  for (const uint32_t binary : {2, 3, 4, 5}) AddFrame(binary, start, v1::FRAME_SOURCE_SAMPLED_IP);
  AddFrame(1, UINT64_MAX, v1::FRAME_SOURCE_DWARF);
  AddFrame(1, 0, v1::FRAME_SOURCE_DWARF);
  const int named = AddFrame(1, 7, v1::FRAME_SOURCE_DWARF);
  definitions_.mutable_frames(named)->set_symbol("known");
  const v1::Definitions before = definitions_;
  NameAll();
  for (int i = 0; i < definitions_.frames_size(); ++i) {
    EXPECT_EQ(definitions_.frames(i).symbol(), before.frames(i).symbol()) << i;
    EXPECT_EQ(definitions_.frames(i).offset(), before.frames(i).offset()) << i;
  }
  EXPECT_EQ(definitions_.binaries(1).symbols_missing(), "it is not here");
  EXPECT_EQ(definitions_.binaries(2).symbols_missing(), "stripped");
}

}  // namespace
}  // namespace lbrd::daemon

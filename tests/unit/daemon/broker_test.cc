#include "daemon/broker.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "daemon/broker_client.h"
#include "daemon/broker_kernel.h"
#include "daemon/broker_loop.h"
#include "daemon/log.h"

namespace lbrd::daemon {
namespace {

std::span<const std::byte> Bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

int OpenDescriptors() {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    static_cast<void>(entry);
    ++count;
  }
  return count;
}

// A broker on a thread of its own, and its client.
class BrokerTest : public testing::Test {
 protected:
  BrokerTest() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    config_ = absl::StrCat(testing::TempDir(), "broker_test", getpid(), ".toml");
    std::ofstream(config_) << "# mine\n";
    thread_ = std::thread([this, channel = ends[0]] {
      Broker broker({.config_path = config_,
                     .notify = [this](absl::string_view text) { heard_ = std::string(text); }});
      while (broker.Serve(channel)) {
      }
      close(channel);
    });
    client_.emplace(ends[1]);
  }
  ~BrokerTest() override {
    client_.reset();
    thread_.join();
    unlink(config_.c_str());
  }
  int ErrorOf(const BrokerRequest& request) {
    const BrokerClient::Reply reply = client_->Ask(request);
    if (reply.fd >= 0) close(reply.fd);
    return reply.error;
  }

  std::string config_;
  std::string heard_;
  std::optional<BrokerClient> client_;
  std::thread thread_;
};

TEST_F(BrokerTest, OpensABinaryAndNothingElse) {
  const BrokerClient::Reply reply = client_->Ask(
      {.call = BrokerCall::kOpenBinary, .pid = getpid(), .payload = "/proc/self/../../bin/true"});
  EXPECT_EQ(reply.error, 0);
  ASSERT_GE(reply.fd, 0);
  char start[4];
  EXPECT_EQ(pread(reply.fd, start, 4, 0), 4);
  EXPECT_EQ(std::string(start, 4),
            "\x7f"
            "ELF");
  EXPECT_EQ(fcntl(reply.fd, F_GETFL) & O_ACCMODE, O_RDONLY);
  close(reply.fd);
  // Not a program; a folder; a device; missing.
  EXPECT_EQ(ErrorOf({.call = BrokerCall::kOpenBinary, .pid = -1, .payload = "/etc/passwd"}),
            ENOEXEC);
  EXPECT_EQ(ErrorOf({.call = BrokerCall::kOpenBinary, .pid = -1, .payload = "/etc"}), ENOEXEC);
  EXPECT_EQ(ErrorOf({.call = BrokerCall::kOpenBinary, .pid = -1, .payload = "/dev/zero"}), ENOEXEC);
  EXPECT_EQ(ErrorOf({.call = BrokerCall::kOpenBinary, .pid = -1, .payload = "/no/such"}), ENOENT);
  EXPECT_EQ(ErrorOf({.call = BrokerCall::kOpenBinary, .pid = kMaxPid, .payload = "/bin/true"}),
            ESRCH);
  EXPECT_EQ(ErrorOf({.call = BrokerCall::kOpenBinary, .pid = 0, .payload = "/bin/true"}), EINVAL);
}

TEST_F(BrokerTest, APerfMapIsNotALinkToSomethingElse) {
  constexpr int32_t kNumber = kMaxPid - 1;
  const std::string path = PerfMapPath(kNumber);
  const auto ask = [&] {
    return ErrorOf({.call = BrokerCall::kOpenPerfMap, .pid = -1, .flags = kNumber});
  };
  std::filesystem::remove(path);
  EXPECT_EQ(ask(), ENOENT);
  std::ofstream(path) << "1000 10 f\n";
  EXPECT_EQ(ask(), 0);
  std::filesystem::remove(path);
  std::filesystem::create_symlink("/etc/passwd", path);
  EXPECT_NE(ask(), 0);
  std::filesystem::remove(path);
}

TEST_F(BrokerTest, TheSmallRequests) {
  BrokerClient::Reply reply = client_->Ask({.call = BrokerCall::kReadExe, .pid = getpid()});
  EXPECT_EQ(reply.error, 0);
  EXPECT_EQ(reply.payload, std::filesystem::read_symlink("/proc/self/exe").string());
  reply = client_->Ask({.call = BrokerCall::kOpenMaps, .pid = getpid()});
  EXPECT_GE(reply.fd, 0);
  close(reply.fd);
  reply = client_->Ask({.call = BrokerCall::kOpenConfig});
  char text[16];
  ASSERT_GE(reply.fd, 0);
  EXPECT_EQ(read(reply.fd, text, sizeof(text)), 7);
  close(reply.fd);
  EXPECT_EQ(ErrorOf({.call = BrokerCall::kNotify, .payload = "READY=1"}), 0);
  EXPECT_EQ(heard_, "READY=1");
  EXPECT_EQ(ErrorOf({.call = BrokerCall::kNotify, .payload = "MAINPID=1"}), EACCES);
  EXPECT_EQ(heard_, "READY=1");
  EXPECT_EQ(ErrorOf({.call = BrokerCall::kOpenCgroup, .payload = "../../etc"}), EACCES);
  EXPECT_EQ(ErrorOf({.call = BrokerCall::kOpenCgroup, .payload = "no such"}), ENOENT);
}

TEST_F(BrokerTest, HoldsRingsOfEventsOnly) {
  const int file = open("/dev/zero", O_RDWR | O_CLOEXEC);
  EXPECT_EQ(client_->Ask({.call = BrokerCall::kHoldRing, .flags = 8192}, file).error, EACCES);
  EXPECT_EQ(client_->Ask({.call = BrokerCall::kReadExe, .pid = 1}, file).error, EINVAL);
  close(file);
  EXPECT_EQ(ErrorOf({.call = BrokerCall::kHoldRing, .flags = 8192}), EINVAL);
}

TEST_F(BrokerTest, OpensEventsByTheKernelsErrors) {
  BrokerKernel kernel(&*client_, /*hold_rings=*/true);
  perf_event_attr attr{};
  attr.size = sizeof(attr);
  attr.type = PERF_TYPE_SOFTWARE;
  attr.config = PERF_COUNT_SW_DUMMY;
  attr.exclude_kernel = 1;
  // 0 is the calling thread, not the broker's.
  const int fd = kernel.OpenEvent(attr, 0, -1, 0);
  if (fd == -EACCES || fd == -EPERM) GTEST_SKIP() << "this user may open no events";
  ASSERT_GE(fd, 0);
  int error = 0;
  void* ring = kernel.MapRing(fd, kernel.PageBytes(), &error);
  EXPECT_NE(ring, nullptr) << error;
  if (ring != nullptr) kernel.UnmapRing(ring, kernel.PageBytes());
  kernel.Close(fd);
  attr.config = 4711;
  EXPECT_EQ(kernel.OpenEvent(attr, 0, -1, 0), -ENOENT);
  attr.config = PERF_COUNT_SW_DUMMY;
  EXPECT_EQ(kernel.OpenEvent(attr, kMaxPid, -1, 0), -ESRCH);
  attr.pinned = 1;
  EXPECT_EQ(kernel.OpenEvent(attr, 0, -1, 0), -EACCES);
}

TEST(BrokerHostileTest, TenThousandMalformedRequests) {
  SetLogLevel(LogLevel::kError);
  std::string heard;
  Broker broker(
      {.config_path = "", .notify = [&](absl::string_view text) { heard = std::string(text); }});
  std::mt19937 random(6);
  const int before = OpenDescriptors();
  const std::string payloads[] = {"",
                                  "/bin/true",
                                  std::string(sizeof(perf_event_attr), '\xff'),
                                  std::string(4095, '/'),
                                  "../../..",
                                  "READY=1\nMAINPID=1"};
  for (int i = 0; i < 10'000; ++i) {
    std::string message = EncodeBrokerRequest({.call = static_cast<BrokerCall>(random() % 14),
                                               .id = random(),
                                               .pid = static_cast<int32_t>(random() % 4) - 2,
                                               .cpu = static_cast<int32_t>(random() % 3) - 2,
                                               .flags = random() % 5,
                                               .payload = payloads[random() % 6]});
    switch (random() % 4) {
      case 0:  // a bit flipped
        message[random() % message.size()] ^= static_cast<char>(1 << random() % 8);
        break;
      case 1:  // cut
        message.resize(random() % message.size());
        break;
      case 2:  // random bytes
        for (char& byte : message) byte = static_cast<char>(random());
        break;
      default:
        break;
    }
    uint64_t id = 0;
    const Broker::Answered answered = broker.Answer(Bytes(message), -1, &id);
    if (answered.fd >= 0) close(answered.fd);
    EXPECT_TRUE(answered.status.ok() || answered.fd < 0);
  }
  EXPECT_EQ(OpenDescriptors(), before);
  EXPECT_EQ(heard, "") << "nothing of these may reach systemd";
  SetLogLevel(LogLevel::kInfo);
}

TEST(BrokerHostileTest, ManyDescriptorsAtOnceAreClosed) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  Broker broker({.config_path = "", .notify = [](absl::string_view) {}});
  const int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
  const int before = OpenDescriptors();
  for (int round = 0; round < 100; ++round) {
    int many[8];
    std::fill(std::begin(many), std::end(many), file);
    char text[] = "no request";
    iovec data{text, sizeof(text)};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(many))] = {};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(many));
    std::memcpy(CMSG_DATA(header), many, sizeof(many));
    ASSERT_GT(sendmsg(ends[1], &message, 0), 0);
    EXPECT_TRUE(broker.Serve(ends[0]));
    char answer[kMaxBrokerMessage];
    EXPECT_GT(recv(ends[1], answer, sizeof(answer), 0), 0);
  }
  EXPECT_EQ(OpenDescriptors(), before);
  close(file);
  close(ends[1]);
  EXPECT_FALSE(broker.Serve(ends[0]));
  close(ends[0]);
}

TEST(BrokerLoopTest, PausesGrowAndEnd) {
  EXPECT_EQ(PauseAfter(0), absl::ZeroDuration());
  EXPECT_EQ(PauseAfter(1), kLeastPause);
  EXPECT_EQ(PauseAfter(2), 2 * kLeastPause);
  EXPECT_EQ(PauseAfter(1000), kMostPause);
}

}  // namespace
}  // namespace lbrd::daemon

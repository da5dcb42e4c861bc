// A session's perf descriptor, handed to a client: it reads, it maps the ring read-only, and it
// goes on when the session is gone.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/perf_descriptor.h"
#include "daemon/descriptor_server.h"
#include "daemon/profiler_service.h"
#include "daemon/session_table.h"
#include "daemon/target_files.h"
#include "daemon/task_table.h"
#include "daemon/unix_listener.h"
#include "pmu/admission_limits.h"
#include "pmu/linux_kernel.h"
#include "pmu/record.h"

namespace lbrd {
namespace {

int FirstCpu() {
  cpu_set_t cpus;
  sched_getaffinity(0, sizeof(cpus), &cpus);
  int cpu = 0;
  while (!CPU_ISSET(cpu, &cpus)) ++cpu;
  return cpu;
}

// Works on one CPU for a moment, so that its clock event counts.
void BusyOn(int cpu) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(cpu, &cpus);
  sched_setaffinity(0, sizeof(cpus), &cpus);
  const absl::Time end = absl::Now() + absl::Milliseconds(30);
  while (absl::Now() < end) continue;
}

class DescriptorTest : public ::testing::Test {
 protected:
  DescriptorTest()
      : admission_(pmu::DetectAdmissionLimits(kernel_)),
        binaries_(&files_),
        flows_(&kernel_, &admission_, &binaries_, &tasks_),
        service_(&kernel_, &admission_, &binaries_, &sessions_, &tasks_, &flows_, &audit_, nullptr,
                 {}, false) {
    folder_ = std::filesystem::temp_directory_path() / absl::StrCat("lbrd-fd-", getpid());
    std::filesystem::create_directory(folder_);
    socket_ = (folder_ / "lbrd.sock").string();
    const absl::StatusOr<int> listener =
        daemon::ListenOnUnixSocket(socket_ + ".fd", daemon::kEverybody);
    EXPECT_TRUE(listener.ok()) << listener.status();
    auto server = daemon::DescriptorServer::Serve(*listener, &sessions_, &authenticator_, &audit_);
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  ~DescriptorTest() override {
    server_.reset();
    sessions_.StopAll();
    std::filesystem::remove_all(folder_);
  }
  void Start(const std::string& name) {
    v1::CreateSessionRequest request;
    request.set_session_id(name);
    request.mutable_spec()->mutable_target()->mutable_all_cpus();
    request.mutable_spec()->set_event("cpu-clock");
    request.mutable_spec()->set_ring_bytes(1 << 20);
    request.mutable_spec()->set_stack_mode(v1::STACK_MODE_FRAME_POINTER);
    v1::Session session;
    const grpc::Status status = service_.CreateSession(nullptr, &request, &session);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  void Delete(const std::string& name) {
    v1::DeleteSessionRequest request;
    request.set_name(name);
    v1::DeleteSessionResponse response;
    ASSERT_TRUE(service_.DeleteSession(nullptr, &request, &response).ok());
  }
  // One line sent, whatever comes back.
  std::string Ask(const std::string& line) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, (socket_ + ".fd").c_str());
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(write(fd, line.data(), line.size()), static_cast<ssize_t>(line.size()));
    std::string answer(4096, '\0');
    const ssize_t got = read(fd, answer.data(), answer.size());
    close(fd);
    answer.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return answer;
  }

  pmu::LinuxKernel kernel_;
  pmu::Admission admission_;
  daemon::TargetFiles files_;
  unwind::BinaryCache binaries_;
  daemon::TaskTable tasks_;  // before the sessions
  daemon::Audit audit_;
  daemon::Authenticator authenticator_;
  daemon::FlowTable flows_;  // before the sessions
  daemon::SessionTable sessions_;
  daemon::ProfilerService service_;
  std::filesystem::path folder_;
  std::string socket_;
  std::unique_ptr<daemon::DescriptorServer> server_;
};

TEST_F(DescriptorTest, ReadsCountsAndRecordsAndOutlivesTheSession) {
  const int cpu = FirstCpu();
  Start("lent");
  auto lent = client::PerfDescriptor::Fetch(socket_, "lent", cpu);
  ASSERT_TRUE(lent.ok()) << lent.status();
  EXPECT_NE(fcntl(lent->fd(), F_GETFD) & FD_CLOEXEC, 0);

  const auto before = lent->ReadCounts();
  ASSERT_TRUE(before.ok()) << before.status();
  BusyOn(cpu);
  const auto after = lent->ReadCounts();
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_GT((*after)[0], (*before)[0]);

  const absl::Status mapped = lent->MapRing();
  ASSERT_TRUE(mapped.ok()) << mapped;
  const pmu::RecordFormat format{.sample_type = lent->sample_type(),
                                 .read_format = lent->read_format(),
                                 .sample_id_all = true};
  size_t samples = 0;
  for (int attempt = 0; attempt < 100 && samples == 0; ++attempt) {
    BusyOn(cpu);
    const auto words = lent->CopyRecords();
    if (absl::IsUnavailable(words.status())) continue;
    ASSERT_TRUE(words.ok()) << words.status();
    for (size_t at = 0; at < words->size();) {
      const auto* header = reinterpret_cast<const perf_event_header*>(words->data() + at);
      ASSERT_GE(header->size, sizeof(*header));
      ASSERT_LE(at + header->size / 8, words->size());
      if (header->type == PERF_RECORD_SAMPLE) {
        const auto who = pmu::PeekRecord(header, format);
        ASSERT_TRUE(who.has_value());
        EXPECT_EQ(who->cpu, static_cast<uint32_t>(cpu));
        ++samples;
      }
      at += header->size / 8;
    }
  }
  EXPECT_GT(samples, 0u);

  Delete("lent");
  EXPECT_EQ(client::PerfDescriptor::Fetch(socket_, "lent", cpu).status().code(),
            absl::StatusCode::kNotFound);
  // The session stopped its event: the count is the last one, and can be read for ever.
  const auto last = lent->ReadCounts();
  ASSERT_TRUE(last.ok()) << last.status();
  EXPECT_GE((*last)[0], (*after)[0]);
  BusyOn(cpu);
  EXPECT_EQ((*lent->ReadCounts())[0], (*last)[0]);
  // The event itself is alive, for whoever holds it.
  ASSERT_EQ(ioctl(lent->fd(), PERF_EVENT_IOC_ENABLE, 0), 0) << strerror(errno);
  BusyOn(cpu);
  EXPECT_GT((*lent->ReadCounts())[0], (*last)[0]);
}

// What the kernel does not keep a receiver from: it is said so in daemon/descriptor_server.h.
// Should this fail one day, there is something better to say.
TEST_F(DescriptorTest, ReadOnlyIsAPromiseAndNotEnforced) {
  const int cpu = FirstCpu();
  Start("lent");
  const auto lent = client::PerfDescriptor::Fetch(socket_, "lent", cpu);
  ASSERT_TRUE(lent.ok()) << lent.status();
  EXPECT_EQ(fcntl(lent->fd(), F_GETFL) & O_ACCMODE, O_RDWR);
  // A ring of another size is refused: the receiver cannot make the event a second one.
  EXPECT_EQ(mmap(nullptr, 4096 + 4096, PROT_READ, MAP_SHARED, lent->fd(), 0), MAP_FAILED);
  const size_t bytes = 4096 + (1 << 20);
  void* writable = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, lent->fd(), 0);
  EXPECT_NE(writable, MAP_FAILED);
  if (writable != MAP_FAILED) munmap(writable, bytes);
}

TEST_F(DescriptorTest, RefusesWithAReason) {
  Start("lent");
  const absl::Status no_cpu = client::PerfDescriptor::Fetch(socket_, "lent", 4000).status();
  EXPECT_EQ(no_cpu.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(no_cpu.message(), "the session has no event on CPU 4000");
  EXPECT_NE(Ask("lent\n").find("error 3 "), std::string::npos);
  EXPECT_NE(Ask("lent x\n").find("error 3 "), std::string::npos);
  EXPECT_NE(Ask("nobody 0\n").find("lbrctl list"), std::string::npos);
  EXPECT_EQ(Ask(std::string(1000, 'x')), "");
  EXPECT_EQ(Ask("no end of line"), "");  // cut off after a while, and the next one is served
  EXPECT_TRUE(client::PerfDescriptor::Fetch(socket_, "lent", FirstCpu()).ok());
  EXPECT_FALSE(client::PerfDescriptor::Fetch(socket_ + "-no", "lent", 0).ok());
}

// Who may have what, is the policy's to say: e2e.authorization asks as several users.
TEST_F(DescriptorTest, EverybodyMayAsk) {
  struct stat status;
  ASSERT_EQ(stat((socket_ + ".fd").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0666u);
}

}  // namespace
}  // namespace lbrd

int main(int argc, char** argv) {
  if (geteuid() != 0) {
    std::printf("SKIPPED: sessions of the whole machine need root\n");
    return 77;
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}

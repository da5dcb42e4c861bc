// Memory of the tables of unwinding rules on a machine with many processes: starts 500 of as many
// different programs as are installed, stops each before its main(), and makes the tables of all
// that they have mapped. Prints a Markdown table. Usage: table_memory_bench [--smoke | PROCESSES]
//
// Fails where the tables take more than their budget; that they fit without one being given up is
// said, since what is installed decides it. 77: there are too few programs, or none can be started.
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/unit/unwind/live_process.h"
#include "unwind/binary.h"
#include "unwind/rule_tables.h"

namespace lbrd::unwind {
namespace {

constexpr int kStoppedFd = 3;

// Whether the dynamic linker runs it, and so what it is told to load.
bool IsDynamic(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  Elf64_Ehdr header{};
  if (!file.read(reinterpret_cast<char*>(&header), sizeof(header)) ||
      std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_machine != EM_X86_64) {
    return false;
  }
  for (int i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment{};
    file.seekg(static_cast<std::streamoff>(header.e_phoff) + i * header.e_phentsize);
    if (!file.read(reinterpret_cast<char*>(&segment), sizeof(segment))) return false;
    if (segment.p_type == PT_INTERP) return true;
  }
  return false;
}

// The largest first: they have the most to be unwound.
std::vector<std::string> FindPrograms() {
  std::map<std::pair<uint64_t, uint64_t>, std::pair<uintmax_t, std::string>> by_file;
  for (const char* folder : {"/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/libexec",
                             "/usr/lib/gcc/x86_64-linux-gnu", "/usr/lib/git-core"}) {
    std::error_code error;
    for (auto it = std::filesystem::recursive_directory_iterator(
             folder, std::filesystem::directory_options::skip_permission_denied, error);
         !error && it != std::filesystem::recursive_directory_iterator(); it.increment(error)) {
      struct stat status;
      const std::string path = it->path();
      if (stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
      // With other rights than ours it would not load what we tell it to, and run.
      if ((status.st_mode & (S_ISUID | S_ISGID)) != 0 || access(path.c_str(), X_OK) != 0) continue;
      if (by_file.count({status.st_dev, status.st_ino}) != 0 || !IsDynamic(path)) continue;
      by_file[{status.st_dev, status.st_ino}] = {static_cast<uintmax_t>(status.st_size), path};
    }
  }
  std::vector<std::pair<uintmax_t, std::string>> by_size;
  for (const auto& [file, found] : by_file) by_size.push_back(found);
  std::sort(by_size.rbegin(), by_size.rend());
  std::vector<std::string> programs;
  for (const auto& [size, path] : by_size) programs.push_back(path);
  return programs;
}

// Programs that stand before their main().
class StoppedPrograms {
 public:
  explicit StoppedPrograms(const std::string& preload) : preload_(preload) {}
  StoppedPrograms(const StoppedPrograms&) = delete;
  StoppedPrograms& operator=(const StoppedPrograms&) = delete;
  ~StoppedPrograms() {
    for (const pid_t pid : pids_) kill(pid, SIGKILL);
    for (const pid_t pid : pids_) waitpid(pid, nullptr, 0);
  }

  // False: it could not be started, or did not load what it was told to.
  bool Start(const std::string& path) {
    int stopped[2];
    if (pipe2(stopped, O_CLOEXEC) != 0) return false;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&actions, stopped[1], kStoppedFd);
    std::string name = path;
    std::string load = absl::StrCat("LD_PRELOAD=", preload_);
    std::string tell = absl::StrCat("LBRD_STOPPED_FD=", kStoppedFd);
    char* arguments[] = {name.data(), nullptr};
    char* environment[] = {load.data(), tell.data(), nullptr};
    pid_t pid = -1;
    const int error = posix_spawn(&pid, path.c_str(), &actions, nullptr, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    close(stopped[1]);
    char byte;
    const bool ready = error == 0 && read(stopped[0], &byte, 1) == 1;
    close(stopped[0]);
    if (error != 0) return false;
    if (!ready) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
      return false;
    }
    pids_.push_back(pid);
    return true;
  }
  const std::vector<pid_t>& pids() const { return pids_; }

 private:
  const std::string preload_;
  std::vector<pid_t> pids_;
};

// Calls `take` with the files of a process's executable mappings.
template <typename Take>
void ForEachFile(pid_t pid, Take take) {
  std::ifstream maps(absl::StrCat("/proc/", pid, "/maps"));
  std::string line;
  while (std::getline(maps, line)) {
    std::istringstream fields(line);
    std::string range, protection, offset, device, inode, path;
    fields >> range >> protection >> offset >> device >> inode >> path;
    if (protection.find('x') != std::string::npos && path.starts_with('/')) take(path);
  }
}

double Mib(size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

int Main(int argc, char** argv) {
  const bool smoke = argc == 2 && std::strcmp(argv[1], "--smoke") == 0;
  size_t wanted = smoke ? 20 : 500;
  if (argc == 2 && !smoke && (!absl::SimpleAtoi(argv[1], &wanted) || wanted == 0)) {
    std::fprintf(stderr, "table_memory_bench [--smoke | PROCESSES]\n");
    return 2;
  }
  const std::vector<std::string> programs = FindPrograms();
  StoppedPrograms stopped(LBRD_STOP_BEFORE_MAIN);
  std::set<std::string> started;
  // Where fewer are installed, the largest run more than once.
  for (int round = 0; round < 50 && stopped.pids().size() < wanted; ++round) {
    for (const std::string& program : programs) {
      if (stopped.pids().size() == wanted) break;
      if (round > 0 && started.count(program) == 0) continue;
      if (stopped.Start(program)) started.insert(program);
    }
    if (started.empty()) break;
  }
  if (stopped.pids().size() < wanted) {
    std::fprintf(stderr, "skipped: only %zu of %zu programs could be started and stopped\n",
                 stopped.pids().size(), wanted);
    return 77;
  }

  LiveFiles files;
  BinaryCache binaries(&files);
  std::map<std::string, std::shared_ptr<const Binary>> mapped;
  for (const pid_t pid : stopped.pids()) {
    ForEachFile(pid, [&](const std::string& path) {
      auto& binary = mapped[path];
      if (binary == nullptr) binary = binaries.Get(pid, {.path = path});
    });
  }
  RuleTables& tables = *binaries.rule_tables();
  timespec before, after;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
  size_t rows = 0;
  size_t highest = 0;
  for (const auto& [path, binary] : mapped) {
    rows += tables.Get(binary)->rows();
    highest = std::max(highest, tables.stats().bytes);
  }
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
  const RuleTables::Stats stats = tables.stats();
  std::printf(
      "| processes | programs | binaries mapped | rows | tables, MiB | at most, MiB | evicted | "
      "built in, CPU s |\n|---|---|---|---|---|---|---|---|\n"
      "| %zu | %zu | %zu | %zu | %.1f | %.1f | %llu | %.2f |\n",
      stopped.pids().size(), started.size(), mapped.size(), rows, Mib(stats.bytes), Mib(highest),
      static_cast<unsigned long long>(stats.evicted),
      static_cast<double>(after.tv_sec - before.tv_sec) +
          static_cast<double>(after.tv_nsec - before.tv_nsec) / 1e9);
  if (highest <= RuleTables::kDefaultBudgetBytes) return 0;
  std::fprintf(stderr, "the tables took %.1f MiB, more than their budget of %.1f\n", Mib(highest),
               Mib(RuleTables::kDefaultBudgetBytes));
  return 1;
}

}  // namespace
}  // namespace lbrd::unwind

int main(int argc, char** argv) { return lbrd::unwind::Main(argc, argv); }

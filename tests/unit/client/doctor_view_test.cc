#include "client/doctor_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_split.h"
#include "client/utf8.h"

namespace lbrd::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

v1::Probe* Add(v1::Capabilities* to, const char* name, v1::ProbeVerdict verdict,
               const char* value) {
  v1::Probe* probe = to->add_probes();
  probe->set_name(name);
  probe->set_verdict(verdict);
  probe->set_value(value);
  return probe;
}

v1::Capabilities Machine() {
  v1::Capabilities machine;
  machine.set_version("9.8.7");
  machine.set_kernel_release("6.19.14");
  machine.set_architecture("x86_64");
  machine.set_cpus_online(2);
  Add(&machine, "perf-events", v1::PROBE_VERDICT_OK, "open")->set_essential(true);
  machine.set_stacks("Sessions get user stacks from the hardware's LBR.");
  return machine;
}

TEST(Doctor, GivesEachProbeALineWithMarkAndVerdict) {
  v1::Capabilities machine = Machine();
  machine.mutable_probes(0)->set_why("tried");
  machine.mutable_probes(0)->set_action("none");
  Add(&machine, "lbr-over-switches", v1::PROBE_VERDICT_NOT_TRIED, "no LBR");
  EXPECT_EQ(RenderDoctor(machine, 80),
            "lbrd 9.8.7 on Linux 6.19.14, x86_64, 2 CPUs\n"
            "\n"
            "✓ ok         perf-events        open\n"
            "- not tried  lbr-over-switches  no LBR\n"
            "\n"
            "Sessions get user stacks from the hardware's LBR.\n");
}

TEST(Doctor, SaysBelowWhatIsWrongAndWhatToDo) {
  v1::Capabilities machine = Machine();
  v1::Probe* lbr = Add(&machine, "lbr", v1::PROBE_VERDICT_MISSING, "none");
  lbr->set_why("the kernel says: Operation not supported");
  lbr->set_action("use another machine");
  Add(&machine, "build-ids", v1::PROBE_VERDICT_DEGRADED, "refused");
  const std::string text = RenderDoctor(machine, 80);
  EXPECT_THAT(text, HasSubstr("✗ missing    lbr                none\n"
                              "             the kernel says: Operation not supported\n"
                              "             → use another machine\n"
                              "! degraded   build-ids          refused\n"));
}

TEST(Doctor, FitsTheTerminal) {
  v1::Capabilities machine = Machine();
  std::string many;
  for (int i = 0; i < 60; ++i) many += "word ";
  v1::Probe* lbr = Add(&machine, "lbr", v1::PROBE_VERDICT_MISSING, many.c_str());
  lbr->set_why(many);
  lbr->set_action(many);
  machine.set_stacks(many);
  for (const size_t width : {60, 80, 120}) {
    for (const absl::string_view line : absl::StrSplit(RenderDoctor(machine, width), '\n')) {
      EXPECT_LE(TextCells(line), width) << line;
    }
  }
}

TEST(Doctor, ShowsNoControlCharactersOfOtherProcessesNames) {
  v1::Capabilities machine = Machine();
  Add(&machine, "lbr-holders", v1::PROBE_VERDICT_OK, "\033[31mperf (pid 7)");
  EXPECT_THAT(RenderDoctor(machine, 80), Not(HasSubstr("\033")));
}

TEST(DoctorExitCode, IsThatOfTheWorstProbe) {
  v1::Capabilities machine = Machine();
  EXPECT_EQ(DoctorExitCode(machine), 0);
  Add(&machine, "lbr-holders", v1::PROBE_VERDICT_NOT_TRIED, "");
  EXPECT_EQ(DoctorExitCode(machine), 0);
  v1::Probe* lbr = Add(&machine, "lbr", v1::PROBE_VERDICT_DEGRADED, "");
  EXPECT_EQ(DoctorExitCode(machine), 1);
  lbr->set_verdict(v1::PROBE_VERDICT_MISSING);
  EXPECT_EQ(DoctorExitCode(machine), 1);
  machine.mutable_probes(0)->set_verdict(v1::PROBE_VERDICT_DEGRADED);
  EXPECT_EQ(DoctorExitCode(machine), 1);
  machine.mutable_probes(0)->set_verdict(v1::PROBE_VERDICT_MISSING);
  EXPECT_EQ(DoctorExitCode(machine), 2);
  EXPECT_EQ(DoctorExitCode({}), 2);  // a daemon that knows no probes
}

}  // namespace
}  // namespace lbrd::client

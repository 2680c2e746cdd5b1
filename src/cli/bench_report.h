// The results of tidal bench, for programs and for people.
#ifndef TIDAL_CLI_BENCH_REPORT_H_
#define TIDAL_CLI_BENCH_REPORT_H_

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "cli/bench_run.h"

namespace tidal {

struct BenchMachine {
  std::string cpu;  // the processor's name
  int cores = 0;    // that this process may use
  int threads = 0;
  std::string isa;
  std::string device;    // the name of the device that runs the model; empty: the CPU
  double read_gbps = 0;  // measured, of what runs the model: the limit of the tests
};

// The processor's name as the system knows it, "unknown" where it does not.
std::string CpuName();

// {"machine": {...}, "rows": [...]} as docs/cli.md describes it.
nlohmann::ordered_json BenchJson(const BenchMachine& machine, const std::vector<BenchRow>& rows);
// A table; its lines end with newlines.
std::string BenchTable(const BenchMachine& machine, const std::string& model,
                       const std::vector<BenchRow>& rows);

}  // namespace tidal

#endif  // TIDAL_CLI_BENCH_REPORT_H_

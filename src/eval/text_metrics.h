// Similarities of an answer and a reference, as LongBench (Bai et al. 2024) computes them. All are
// in [0, 1]. Letters are lowered where they are ASCII.
#ifndef TIDAL_EVAL_TEXT_METRICS_H_
#define TIDAL_EVAL_TEXT_METRICS_H_

#include <span>
#include <string>
#include <string_view>

namespace tidal {

std::string LowerAscii(std::string_view text);

// Harmonic mean of precision and recall over words, repetitions counted; ASCII punctuation and the
// words a, an, the are left out.
double TokenF1(std::string_view answer, std::string_view reference);

// ROUGE-L over the texts' sentences (which end at full stops): words are matched in order, and the
// different words that were matched count. 0 where one of the texts has no sentence.
double RougeL(std::string_view answer, std::string_view reference);

// 1 / n where the answer contains the names of n classes, the reference one of them; classes that
// are part of the reference's name do not count.
double ClassScore(std::string_view answer, std::string_view reference,
                  std::span<const std::string> classes);

// Of the numbers in the answer, the share that is `number`; 0 where there is none.
double NumberShare(std::string_view answer, std::string_view number);
// The first run of digits; empty where there is none.
std::string_view FirstNumber(std::string_view text);

// Twice the length of the longest common subsequence of characters by the sum of the lengths,
// rounded to hundredths.
double EditSimilarity(std::string_view answer, std::string_view reference);
// Behind leading newlines, the first line that has none of `, # and //; empty where there is none.
std::string_view FirstCodeLine(std::string_view text);

}  // namespace tidal

#endif  // TIDAL_EVAL_TEXT_METRICS_H_
